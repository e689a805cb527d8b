"""Checks a request against the `openai` package's own types, and says no as the real API does."""

from collections.abc import Mapping
from functools import cache
from typing import Any, cast, get_args, get_type_hints

from pydantic import ConfigDict, TypeAdapter, ValidationError

_SERVER_ERROR = 500


class ApiError(Exception):
    """An answer with an error status."""

    def __init__(self, status: int, message: str, *, code: str | None = None, param: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code
        self.param = param

    def body(self) -> dict[str, object]:
        """The error object, as the provider writes it."""
        return {
            "error": {
                "message": self.message,
                "type": "server_error" if self.status >= _SERVER_ERROR else "invalid_request_error",
                "param": self.param,
                "code": self.code,
            }
        }


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:  # noqa: ANN401  # a type expression has no type
    # In a tuple, because a TypedDict at the top takes no configuration.
    wrapped: Any = tuple.__class_getitem__(kind)
    return TypeAdapter(wrapped, config=ConfigDict(extra="forbid", strict=True))


def check(value: object, kind: Any, where: str) -> None:  # noqa: ANN401  # a type expression has no type
    """Raise an ApiError, in the provider's words, when a value is not of a type of the package."""
    try:
        (checked,) = _adapter(kind).validate_python((value,))
    except ValidationError as error:
        raise _refusal(error, where, skip=1) from error
    _drain(checked, where)


def _drain(value: object, where: str) -> None:
    """Walk through everything: pydantic checks an `Iterable` only as it is consumed."""
    if isinstance(value, Mapping):
        for name, inner in cast("Mapping[str, object]", value).items():
            _drain(inner, f"{where}.{name}")
    elif isinstance(value, list | tuple) or type(value).__name__ == "ValidatorIterator":
        try:
            consumed = list(cast("list[object]", value))
        except ValidationError as error:
            raise _refusal(error, where) from error
        for index, inner in enumerate(consumed):
            _drain(inner, f"{where}[{index}]")


def _refusal(error: ValidationError, where: str, *, skip: int = 0) -> ApiError:
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    # Names of the types a union was tried with are no part of the path.
    steps = [step for step in first["loc"][skip:] if not str(step)[:1].isupper()]
    path = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in steps)
    param = f"{where}{path}".lstrip(".")
    if first["type"] == "extra_forbidden":
        return ApiError(400, f"Unknown parameter: '{param}'.", code="unknown_parameter", param=param)
    if first["type"] == "missing":
        return ApiError(400, f"Missing required parameter: '{param}'.", code="missing_required_parameter", param=param)
    return ApiError(400, f"Invalid type for '{param}': {first['msg']}.", code="invalid_type", param=param)


@cache
def by_literal(union: Any, field: str) -> dict[str, list[Any]]:  # noqa: ANN401  # a type expression has no type
    """The members of a union of TypedDicts by what their discriminating field may say; "" where it may be left out."""
    found: dict[str, list[Any]] = {}
    for member in get_args(union):
        hint = get_type_hints(member).get(field)
        for literal in _literals(hint):
            found.setdefault(literal, []).append(member)
        if field not in member.__required_keys__:
            found.setdefault("", []).append(member)
    return found


def _literals(hint: object) -> list[str]:
    return [text for arg in get_args(hint) for text in ([arg] if isinstance(arg, str) else _literals(arg))]
