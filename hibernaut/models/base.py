"""The base of every model that crosses a boundary."""

from pydantic import BaseModel, ConfigDict


class Model(BaseModel):
    """Frozen, and strict about names: an unknown field is an error that names the field."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)


class Open(BaseModel):
    """Frozen, but tolerant of fields of a newer release: for what is read back from a history or a store."""

    model_config = ConfigDict(frozen=True, extra="ignore", validate_default=True)
