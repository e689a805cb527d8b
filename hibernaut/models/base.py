"""The base of every model that crosses a boundary."""

from collections.abc import Mapping, Sequence
from typing import Annotated, TypeVar, cast

from pydantic import (
    BaseModel,
    ConfigDict,
    PlainSerializer,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)

T = TypeVar("T")
Path = tuple[int | str, ...]


class Model(BaseModel):
    """Frozen, and strict about names: an unknown field is an error that names the field."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)


class Open(BaseModel):
    """Frozen, but tolerant of fields of a newer release: for what is read back from a history or a store."""

    model_config = ConfigDict(frozen=True, extra="ignore", validate_default=True)


def unknown_fields(model: type[BaseModel], value: object) -> tuple[str, ...]:
    """Names of the fields that a strict model does not know, such as `network.ports`."""
    try:
        model.model_validate(value)
    except ValidationError as error:
        return tuple(".".join(str(part) for part in path) for path in _foreign(error))
    return ()


def _foreign(error: ValidationError) -> list[Path]:
    problems = error.errors(include_url=False, include_input=False, include_context=False)
    return [problem["loc"] for problem in problems if problem["type"] == "extra_forbidden"]


def _known(value: object, handler: ValidatorFunctionWrapHandler) -> object:
    """Validate without the fields that this release does not know."""
    while True:
        try:
            return handler(value)
        except ValidationError as error:
            left = value
            for path in _foreign(error):
                left = _without(left, path)
            if left is value:
                raise
            value = left


def _without(value: object, path: Path) -> object:
    """A copy that lacks one field; the value itself when it has no such field."""
    if not path:
        return value
    first, rest = path[0], path[1:]
    held: dict[int | str, object] = {}
    named = isinstance(value, Mapping)
    if named:
        held = dict(cast("Mapping[int | str, object]", value))
    elif isinstance(value, list | tuple):
        held = dict(enumerate(cast("Sequence[object]", value)))
    if first not in held:
        # Of a union, the path names the member as well.
        return _without(cast("object", value), rest)
    if rest:
        inner = _without(held[first], rest)
        if inner is held[first]:
            return cast("object", value)
        held[first] = inner
    else:
        del held[first]
    return held if named else list(held.values())


def _sparse(value: BaseModel) -> dict[str, object]:
    return value.model_dump(mode="json", exclude_defaults=True)


Lenient = Annotated[T, WrapValidator(_known)]
"""A strict model where it comes from another build instead of a person: fields that this one does not know are left
out, at any depth."""
Sparse = Annotated[T, WrapValidator(_known), PlainSerializer(_sparse, when_used="json")]
"""The same, sent without what is at its default: what the reader does not know of it, somebody asked for."""
