"""The tools of MCP servers as a model is offered them: named, cleaned, bounded. A server's words are hostile input."""

import json
import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from pydantic import JsonValue, ValidationError

from activities.errors import ModelRejected
from activities.functions import Functions
from activities.ports.mcp import ListedTool
from activities.schema_checks import strangers
from hibernaut.contracts import TASK_QUEUE, McpOffer, plain
from hibernaut.models.functions import MAX_FUNCTIONS_BYTES, FunctionSpec
from hibernaut.models.mcp import MAX_TOOL_NAME, offered_name

log = logging.getLogger(__name__)

MAX_DESCRIPTION = 4_000
MAX_SCHEMA = 32_000
"""Characters of one tool's schema."""
MAX_OFFERED = 100
"""Tools of all servers that one agent is offered: providers take 128 in all."""
_UNUSABLE_ABOVE = ("oneOf", "anyOf", "allOf", "enum", "not")
"""What providers refuse at the top of a schema, with everything else that is in the request."""
MAX_CHECKING_S = 10.0
"""Processor time for the schemas of one listing: to check one of 32,000 characters takes up to two seconds."""
_TEXTS = ("title", "description", "$comment")


@dataclass(frozen=True, slots=True)
class UsableTool:
    """A tool that can be offered."""

    name: str
    """The server's name for it."""
    spec: FunctionSpec
    """How it is declared to the model."""


def usable(server: str, tools: Iterable[ListedTool]) -> dict[str, UsableTool]:
    """The tools of a server that can be offered, by the names under which they are, in the order of these.

    What cannot be named, described or checked is left out, with a line in the log: one tool that a provider refuses
    would take all others with it. So are tools that would bear one name, for neither may be taken for the other.
    """
    found: dict[str, UsableTool] = {}
    twice: set[str] = set()
    until = time.thread_time() + MAX_CHECKING_S
    for tool in tools:
        if time.thread_time() > until:
            log.warning(
                "MCP server %s: its tools from %r on are left out: they take too long to check", server, tool.name[:100]
            )
            break
        name = offered_name(server, tool.name)
        if name in found:
            twice.add(name)
        try:
            found[name] = UsableTool(tool.name, _declared(name, tool))
        except (ValueError, TypeError, RecursionError, ModelRejected) as error:
            why = error.errors(include_input=False)[0]["msg"] if isinstance(error, ValidationError) else str(error)
            log.warning("MCP server %s: the tool %r is left out: %s", server, tool.name[:100], why[:300])
    for name in twice & found.keys():
        log.warning("MCP server %s: several tools would be named %s; they are left out", server, name)
        del found[name]
    return dict(sorted(found.items()))


def _declared(name: str, tool: ListedTool) -> FunctionSpec:
    if len(name) > MAX_TOOL_NAME:
        raise ValueError(f"its name has {len(name)} characters and the limit is {MAX_TOOL_NAME}")
    written = json.dumps(tool.schema)
    if len(written) > MAX_SCHEMA:
        raise ValueError(f"its schema has {len(written)} characters and the limit is {MAX_SCHEMA}")
    schema = _texts_cleaned(plain.loaded(written))
    if not isinstance(schema, dict) or schema.get("type") != "object":
        raise ValueError("its schema is not of type object")
    refused = next((word for word in _UNUSABLE_ABOVE if word in schema), None)
    if refused is not None:
        raise ValueError(f"its schema has {refused!r} at the top, which model providers refuse")
    schema.setdefault("properties", {})
    spec = FunctionSpec(
        name=name,
        description=cleaned(tool.description) or f"The tool {tool.name[:100]}.",
        parameters=schema,
        task_queue=TASK_QUEUE,
    )
    Functions([spec], by=strangers)
    return spec


def cleaned(text: str) -> str:
    """A text without characters that hide or disguise what it says, cut to the limit."""
    printable = "".join(one for one in text[: MAX_DESCRIPTION * 2] if one.isprintable() or one in "\n\t")
    return printable.strip()[:MAX_DESCRIPTION]


def _texts_cleaned(schema: JsonValue) -> JsonValue:
    """A schema whose own descriptions hide nothing either."""
    match schema:
        case dict():
            return {
                name: cleaned(inner) if name in _TEXTS and isinstance(inner, str) else _texts_cleaned(inner)
                for name, inner in schema.items()
            }
        case list():
            return [_texts_cleaned(inner) for inner in schema]
        case _:
            return schema


def chosen(offers: Sequence[McpOffer], known: Mapping[str, Mapping[str, UsableTool]]) -> Functions:
    """The tools that one agent is offered; what is too much together is left out, with a line in the log."""
    specs: list[FunctionSpec] = []
    left_out = size = 0
    for offer in offers:
        allowed = None if offer.tools is None else set(offer.tools)
        for tool in known.get(offer.server, {}).values():
            if allowed is not None and tool.name not in allowed:
                continue
            weight = len(tool.spec.model_dump_json())
            if len(specs) >= MAX_OFFERED or size + weight > MAX_FUNCTIONS_BYTES:
                left_out += 1
                continue
            size += weight
            specs.append(tool.spec)
    if left_out:
        log.warning("%s tools of MCP servers are left out: too many for one agent; name fewer in its spec", left_out)
    return Functions(specs, by=strangers)


def lacking(
    offers: Sequence[McpOffer], known: Mapping[str, Mapping[str, UsableTool]]
) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Of each known server, what a spec names and cannot be offered; with a line in the log."""
    found: list[tuple[str, tuple[str, ...]]] = []
    for offer in offers:
        if offer.server not in known:
            continue
        there = {tool.name for tool in known[offer.server].values()}
        names = tuple(sorted(set(offer.tools or ()) - there))
        if names:
            log.warning("MCP server %s: a spec names tools that it does not offer: %s", offer.server, ", ".join(names))
        found.append((offer.server, names))
    return tuple(found)
