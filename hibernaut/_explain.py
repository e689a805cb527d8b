"""Pydantic's errors as sentences that name the field and what it may be."""

from collections.abc import Mapping
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from hibernaut.errors import InvalidSpec
from hibernaut.models import AgentSpec
from hibernaut.models.spec import CARRIED

SHOWN = 60
"""Characters of a wrong value that are repeated in the message about it."""


def parse_spec(data: object, *, source: str = "The spec", carried: bool = False) -> AgentSpec:
    """Read a spec from JSON-like data.

    Args:
        data: Mostly a mapping.
        source: What the data is or where it comes from: the subject of the error's sentence.
        carried: Whether an agent has lived with it, whose network rules may have changed.

    Raises:
        InvalidSpec: with a line for each wrong field.
    """
    if not isinstance(data, Mapping):
        raise InvalidSpec(
            f"{source} is not a mapping of fields but {_kind(data)}.",
            hint="The smallest one is `model: NAME`.",
        )
    try:
        return AgentSpec.model_validate(data, context=CARRIED if carried else None)
    except ValidationError as error:
        problems = explain(error, AgentSpec)
        listed = "\n".join(f"  {problem}" for problem in problems)
        raise InvalidSpec(f"{source} is not valid:\n{listed}", problems=problems) from error


def explain(error: ValidationError, model: type[BaseModel]) -> tuple[str, ...]:
    """A line for each problem: field, what is wrong, what is allowed, what was given."""
    return tuple(_line(dict(problem), model) for problem in error.errors(include_url=False))


def _line(problem: dict[str, Any], model: type[BaseModel]) -> str:
    where = tuple(problem["loc"])
    name = ".".join(str(part) for part in where) or "the whole"
    given = problem.get("input")
    match problem["type"]:
        case "missing":
            return f"{name}: is required"
        case "extra_forbidden":
            owner = _model_at(model, where[:-1])
            known = f"; known here: {', '.join(owner.model_fields)}" if owner else ""
            return f"{name}: there is no such field{known}"
        case "literal_error" | "enum":
            text = f"must be {problem['ctx']['expected']}"
        case "value_error":
            # Our own validators: the sentence names the value where that helps.
            return f"{name}: {problem['ctx']['error']}"
        case _:
            text = problem["msg"][:1].lower() + problem["msg"][1:]
    shown = repr(given)
    return f"{name}: {text}, not {shown if len(shown) <= SHOWN else shown[:SHOWN] + '…'}"


def _model_at(model: type[BaseModel], where: tuple[Any, ...]) -> type[BaseModel] | None:
    for part in where:
        field = model.model_fields.get(str(part))
        if field is None:
            return None
        for kind in (field.annotation, *get_args(field.annotation)):
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                model = kind
                break
        else:
            return None
    return model


def _kind(data: object) -> str:
    match data:
        case None:
            return "empty"
        case list():
            return "a list"
        case str():
            return "a text"
        case _:
            return f"a {type(data).__name__}"
