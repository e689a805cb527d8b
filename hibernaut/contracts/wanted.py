"""What is asked of a host whose release may be an older one."""

from typing import cast

from pydantic import Field, model_validator

from hibernaut.models.base import Open, Sparse, unknown_fields
from hibernaut.models.spec import SandboxSpec


class Wanted(Open):
    """Asks for a sandbox."""

    spec: Sparse[SandboxSpec]
    unknown: tuple[str, ...] = Field(default=(), exclude=True)
    """Fields of the spec that this release does not know: a sandbox without what they ask for must not be made."""

    @model_validator(mode="before")
    @classmethod
    def _note_unknown(cls, data: object) -> object:
        fields = cast("dict[str, object]", data) if isinstance(data, dict) else {}
        if isinstance(spec := fields.get("spec"), dict):
            return {**fields, "unknown": unknown_fields(SandboxSpec, cast("object", spec))}
        return cast("object", data)
