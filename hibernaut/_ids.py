"""What an agent may be called."""

import re

from hibernaut.contracts.names import RESERVED_PREFIXES
from hibernaut.errors import InvalidAgentId

AGENT_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")


def check_agent_id(agent_id: str) -> None:
    """Raise InvalidAgentId unless the id is one that works in a URL, a label and a file name."""
    if AGENT_ID.fullmatch(agent_id) is None or set(agent_id) == {"."} or agent_id == "..":
        raise InvalidAgentId(
            f"{agent_id[:140]!r} is not an agent id.",
            hint="Use 1 to 128 of the characters A-Z a-z 0-9 . _ - and not dots alone.",
        )


def check_new_id(agent_id: str) -> None:
    """The same for an agent that is to be made, whose id the engine must not need for workflows of its own."""
    check_agent_id(agent_id)
    if taken := reserved(agent_id):
        raise InvalidAgentId(
            f"No agent can be called {agent_id!r}: ids that begin with {taken!r} are those of the engine's workflows.",
            hint="Choose an id that begins otherwise.",
        )


def reserved(agent_id: str) -> str | None:
    """What an id begins with that is the engine's; None when it is free."""
    return next((prefix for prefix in RESERVED_PREFIXES if agent_id.startswith(prefix)), None)
