"""The function tools of a spec: declared to the model, their arguments and results checked against their schemas."""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

from jsonschema import SchemaError, ValidationError
from pydantic import TypeAdapter, ValidationError as Invalid
from referencing import Registry
from referencing.exceptions import Unresolvable

from activities.errors import ModelRejected, ObjectNotFound, TranscriptDamaged
from activities.ports.store import ObjectStore
from activities.schema_checks import Checker, authors
from hibernaut.contracts import plain
from hibernaut.models.base import Lenient
from hibernaut.models.functions import MAX_ARGUMENTS, FunctionSpec

Json = dict[str, Any]
_SPECS = TypeAdapter(tuple[Lenient[FunctionSpec], ...])
_KEPT = 100


class Functions:
    """The function tools of one agent."""

    def __init__(self, specs: Sequence[FunctionSpec] = (), *, by: Checker = authors) -> None:
        """Check the schemas, and what they are for, `by` this.

        Raises:
            ModelRejected: one is no JSON Schema.
        """
        self._by = by
        self._specs = {spec.name: spec for spec in specs}
        for spec in specs:
            for field, schema in (("parameters", spec.parameters), ("result", spec.result)):
                try:
                    if schema is not None:
                        by(schema).check_schema(schema)
                except SchemaError as error:
                    msg = f"Function {spec.name!r} of the spec has no valid JSON Schema in {field!r}: {error.message}."
                    raise ModelRejected(msg) from None

    @property
    def names(self) -> tuple[str, ...]:
        """Their names."""
        return tuple(self._specs)

    def declarations(self) -> list[Json]:
        """The tools as the Chat Completions wire declares them."""
        return [
            {
                "type": "function",
                "function": {"name": spec.name, "description": spec.description, "parameters": spec.parameters},
            }
            for spec in self._specs.values()
        ]

    def checked(self, name: str, arguments: str) -> Json:
        """The arguments of a call.

        Raises:
            ValueError: they do not fit; the message is for the model.
        """
        if len(arguments) > MAX_ARGUMENTS:
            msg = f"{len(arguments)} characters, and the limit is {MAX_ARGUMENTS}; put what is long into a file"
            raise ValueError(msg)
        given = plain.loaded(arguments or "{}")
        fault = _fault(self._by, self._specs[name].parameters, given)
        if fault or not isinstance(given, dict):
            raise ValueError(fault or "not a JSON object")
        return given

    def fault_of(self, name: str, result: object) -> str | None:
        """Why a result is not what the tool promises; none when it is."""
        spec = self._specs.get(name)
        return _fault(self._by, spec.result, result) if spec is not None and spec.result is not None else None


class FunctionBook:
    """Reads the function tools that specs declare; remembers the newest, which never change under their reference."""

    def __init__(self, store: ObjectStore) -> None:
        """Read from a store."""
        self._store = store
        self._known: OrderedDict[str, Functions] = OrderedDict()

    async def functions(self, ref: str | None) -> Functions:
        """The tools under a reference; none under none.

        Raises:
            TranscriptDamaged: they are missing or unreadable.
            ModelRejected: a schema is not valid.
        """
        if ref is None:
            return Functions()
        if ref not in self._known:
            try:
                self._known[ref] = Functions(_SPECS.validate_json(await self._store.get(ref)))
            except (ObjectNotFound, Invalid) as error:
                msg = f"The functions of the agent's spec (key {ref!r}) are missing from the store or damaged."
                raise TranscriptDamaged(msg) from error
            while len(self._known) > _KEPT:
                self._known.popitem(last=False)
        return self._known[ref]


def _fault(by: Checker, schema: Mapping[str, Any], value: Any) -> str | None:  # noqa: ANN401  # JSON
    # An empty registry: nothing that a schema refers to is fetched from anywhere.
    validator = by(schema)(schema, registry=Registry())
    try:
        found: ValidationError | None = next(iter(validator.iter_errors(value)), None)
    except Unresolvable as error:
        return f"the schema refers to {error.ref!r}, which is not in it"
    except Exception as error:  # noqa: BLE001  # a schema and a value that break the checker must not break the agent
        return f"it cannot be checked against its schema ({type(error).__name__})"
    if found is None:
        return None
    return f"{found.json_path}: {found.message[:300]}"
