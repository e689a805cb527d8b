"""A spec as it comes from any client, checked inside the workflow."""

from pydantic import JsonValue
from temporalio import workflow

from hibernaut._explain import parse_spec
from hibernaut._ids import reserved
from hibernaut.errors import InvalidSpec
from hibernaut.models import AgentSpec

RESERVED_IDS = "reserved-ids"
"""The patch since which an id that the engine's own workflows need is refused."""


def refused_id(agent_id: str) -> str | None:
    """Why no agent can have this id; None when it can."""
    # Agents that older builds began live on, and their histories replay.
    taken = reserved(agent_id)
    if taken is None or not workflow.patched(RESERVED_IDS):
        return None
    return (
        f"No agent can be called {agent_id!r}: ids that begin with {taken!r} are those of the engine's workflows. "
        "Start it under another id."
    )


def check(spec: JsonValue) -> tuple[AgentSpec, str | None]:
    """The spec, or a placeholder with the sentences that say what is wrong: the SDK's own."""
    try:
        return parse_spec(spec), None
    except InvalidSpec as error:
        return AgentSpec(model="invalid"), str(error)
