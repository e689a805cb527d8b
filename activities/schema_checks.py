"""Validators of JSON Schema: one for schemas that a spec's author wrote, one for those of a stranger."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, cast

from jsonschema import Draft202012Validator, ValidationError
from jsonschema.protocols import Validator
from jsonschema.validators import (
    extend,  # pyright: ignore[reportUnknownVariableType]  # untyped
    validator_for,
)

Checker = Callable[[Mapping[str, Any]], type[Validator]]
"""The validator that a schema is read by."""
Keyword = Callable[[Any, Any, Any, Any], Iterator[ValidationError] | None]
_BY_PATTERN = ("pattern", "patternProperties", "unevaluatedProperties")
_BY_SEARCH = ("unevaluatedItems",)
"""It follows references by itself, unseen by the limit."""
MAX_S = 0.5
"""Processor time of one check by a stranger's schema: references that fan out double the work with each level."""
_LOOKS = 32
"""Keywords between two looks at the clock."""


class SchemaTooCostly(Exception):
    """A check took more than its time."""


@dataclass(slots=True)
class _Limit:
    until: float
    keywords: int = 0


_limit: ContextVar[_Limit] = ContextVar("limit")


def authors(schema: Mapping[str, Any]) -> type[Validator]:
    """JSON Schema 2020-12, whole."""
    del schema
    return Draft202012Validator


def strangers(schema: Mapping[str, Any]) -> type[Validator]:
    """The dialect that the schema names, without what runs its patterns: one may take exponential time.

    Who wrote such a schema checks the patterns himself. A check ends with `SchemaTooCostly` after `MAX_S`, counted from
    here: it holds up everything else that the worker does.
    """
    _limit.set(_Limit(time.thread_time() + MAX_S))
    named = schema.get("$schema")
    if named is not None and not isinstance(named, str):
        raise ValueError("its `$schema` is no text")
    return _limited(validator_for(schema, default=Draft202012Validator))


@cache
def _limited(dialect: type[Validator]) -> type[Validator]:
    whole: Mapping[str, Keyword] = dialect.VALIDATORS
    additional = whole["additionalProperties"]

    def by_name(validator: Any, allowed: Any, instance: Any, schema: Any) -> Iterator[ValidationError]:  # noqa: ANN401  # jsonschema's
        if "patternProperties" not in schema:
            yield from additional(validator, allowed, instance, schema) or ()

    silenced = dict.fromkeys((word for word in (*_BY_PATTERN, *_BY_SEARCH) if word in whole), _nothing)
    keywords = {**whole, **silenced, "additionalProperties": by_name}
    timed = {word: partial(_in_time, check) for word, check in keywords.items()}
    return cast("type[Validator]", extend(dialect, timed))


def _in_time(check: Keyword, *given: Any) -> Iterator[ValidationError] | None:  # noqa: ANN401  # jsonschema's
    limit = _limit.get()
    limit.keywords += 1
    if limit.keywords % _LOOKS == 0 and time.thread_time() > limit.until:
        raise SchemaTooCostly
    return check(*given)


def _nothing(*_: Any) -> Iterator[ValidationError]:  # noqa: ANN401  # the same
    return iter(())
