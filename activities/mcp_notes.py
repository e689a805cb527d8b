"""What a model is told of MCP servers that do not answer, or lack a tool: once, and once that it is over."""

from collections.abc import Sequence

from activities.items import message
from activities.mcp_pool import Offered
from activities.ports.model import Item
from activities.summary import text_of

_ABOUT = "[hibernaut] The tools of MCP server "
_LACKS = "[hibernaut] Tools meant for you that are not to be had of MCP server "
_NONE = "none any more."


def with_notes(past: Sequence[Item], new_items: Sequence[Item], offered: Offered) -> list[Item]:
    """The new items, and the notes that the conversation lacks: what was said last of a server is what holds."""
    if not offered.absent and not offered.present:
        return list(new_items)
    told = [text_of(item) for item in (*past, *new_items) if item.get("role") == "developer"]
    told = [text for text in told if text.startswith((_ABOUT, _LACKS))]
    lacking = [_gone(server) for server in offered.absent if _last(told, server) != _gone(server)]
    lacking += [_back(server) for server in offered.present if _last(told, server) == _gone(server)]
    for server, names in offered.lacking:
        about = f"{_LACKS}{server}: "
        last = next((text for text in reversed(told) if text.startswith(about)), about + _NONE)
        now = about + (f"{', '.join(names)}. Go on without them." if names else _NONE)
        lacking += [now] if now != last else []
    return [*new_items, *(message("developer", text) for text in lacking)]


def _last(told: Sequence[str], server: str) -> str | None:
    return next((text for text in reversed(told) if text in (_gone(server), _back(server))), None)


def _gone(server: str) -> str:
    return (
        f"{_ABOUT}{server} cannot be offered now: it does not answer. "
        "Go on without them as far as you can; you are told when they are back."
    )


def _back(server: str) -> str:
    return f"{_ABOUT}{server} are offered again."
