"""Send a message and wait for its answer, showing meanwhile what the agent does."""

import asyncio
import contextlib
import sys

from hibernaut._messages import Delivery, Reply
from hibernaut.agent import AgentHandle
from hibernaut.cli.console import session
from hibernaut.cli.live import LiveLine, watching
from hibernaut.cli.render import show_event
from hibernaut.cli.troubles import warn_of_troubles
from hibernaut.errors import HibernautError
from hibernaut.models import EventKind


async def converse(
    agent: AgentHandle,
    text: str,
    message_id: str | None,
    timeout: float | None,
    *,
    since: int | None,
    events: bool | None,
    delivery: Delivery = "queue",
) -> Reply:
    """Send and wait, with live events beside when somebody watches."""
    warner = asyncio.create_task(warn_of_troubles(agent))
    try:
        return await _watched(agent, text, message_id, timeout, since=since, events=events, delivery=delivery)
    finally:
        warner.cancel()


async def _watched(
    agent: AgentHandle,
    text: str,
    message_id: str | None,
    timeout: float | None,
    *,
    since: int | None,
    events: bool | None,
    delivery: Delivery = "queue",
) -> Reply:
    watched = sys.stderr.isatty() and not session.json if events is None else events
    if not watched:
        return await agent.send(text, message_id=message_id, timeout=timeout, delivery=delivery, until_asked=True)
    begin = (await agent.status()).last_event if since is None else since
    ticket = await agent.post(text, message_id=message_id, delivery=delivery)
    line = LiveLine(over=sys.stderr.isatty())
    watch = asyncio.create_task(_watch(agent, begin, ticket.message_id, line))
    patience = LAST_LOOK
    async with watching(agent, line.show):
        try:
            reply = await agent.wait(ticket.message_id, timeout=timeout, until_asked=True)
            patience = TURN_END
            return reply
        finally:
            with contextlib.suppress(TimeoutError, HibernautError):
                await asyncio.wait_for(watch, patience)


TURN_END = 5.0
"""Longest wait, in seconds, for the event that ends a turn once its answer is there."""
LAST_LOOK = 0.4
"""The same when there is no answer: whatever else happened is shown if it comes at once."""


async def _watch(agent: AgentHandle, since: int, message_id: str, line: LiveLine) -> None:
    async for event in agent.events(since):
        answer = event.kind is EventKind.REPLY and not event.data.get("tool_calls")
        if not answer and event.kind is not EventKind.MESSAGE:
            # The message is what was just typed, and the answer goes to standard output.
            line.clear()
            show_event(event, err=True)
        joined = event.data.get("joined")
        ids = [event.data.get("message_id"), *(joined if isinstance(joined, list) else [])]
        if event.kind in {EventKind.TURN_FINISHED, EventKind.INTERRUPTED} and message_id in ids:
            return
