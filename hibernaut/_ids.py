"""What an agent may be called."""

import re

from hibernaut.errors import InvalidAgentId

AGENT_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")


def check_agent_id(agent_id: str) -> None:
    """Raise InvalidAgentId unless the id is one that works in a URL, a label and a file name."""
    if AGENT_ID.fullmatch(agent_id) is None or set(agent_id) == {"."} or agent_id == "..":
        raise InvalidAgentId(
            f"{agent_id[:140]!r} is not an agent id.",
            hint="Use 1 to 128 of the characters A-Z a-z 0-9 . _ - and not dots alone.",
        )
