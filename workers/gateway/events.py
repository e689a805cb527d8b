"""The event log as newline-delimited JSON: segments from the store, then what the workflow still holds, then live."""

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass
from functools import partial

from pydantic import TypeAdapter, ValidationError
from starlette.requests import Request
from starlette.responses import Response

from activities.ports.store import ObjectStore
from hibernaut._temporal import Workflows
from hibernaut._waiting import Every, Pace, patiently
from hibernaut.contracts import StoreKeys
from hibernaut.errors import GatewayFailed
from hibernaut.models import AgentStatus, Event, EventKind, EventsPage
from workers.gateway import requests
from workers.gateway.streams import NDJSON, ndjson, streamed

log = logging.getLogger(__name__)

_SEGMENT = TypeAdapter(tuple[Event, ...])
CHECK_CLOSED_EVERY = 5.0
ALIVE_EVERY = 15.0
"""Seconds after which an empty line tells both sides that the other is there."""


@dataclass(frozen=True, slots=True)
class Events:
    """The route `/v1/agents/{id}/events`, and the event log for others."""

    workflows: Workflows
    store: ObjectStore

    async def stream(self, request: Request) -> Response:
        """GET: the events after `since`, and with `follow` those to come."""
        name = requests.agent_id(request)
        parameters = requests.query(request)
        since, follow = requests.since(parameters), requests.flag(parameters, "follow")
        status = await self.workflows.query(name, "status", [], AgentStatus)
        return await streamed(self._lines(status, since, follow=follow), NDJSON)

    async def _lines(self, status: AgentStatus, since: int, *, follow: bool) -> AsyncGenerator[bytes]:
        name, pace = status.agent_id, Pace()
        check, alive = Every(CHECK_CLOSED_EVERY), Every(ALIVE_EVERY)
        if follow and since >= status.last_event:
            # Something to send at once, or the client would not even learn that it is connected.
            yield b"\n"
        while True:
            quiet = True
            async for event in self._new(status, since):
                since, quiet = event.seq, False
                yield ndjson(event)
                follow = follow and event.kind is not EventKind.CLOSED
            if not follow:
                return
            if quiet and check.due() and not await self.workflows.is_open(name):
                # Once more, for what happened between the last look and the end.
                follow = False
                continue
            if alive.due():
                yield b"\n"
            if not quiet:
                pace.reset()
            await pace.sleep()

    async def _new(self, status: AgentStatus, since: int) -> AsyncGenerator[Event]:
        """All after `since` that there is at this moment."""
        page = await patiently(partial(self.page, status.agent_id, since))
        if since + 1 < page.first_held and since < page.last:
            async for event in self.stored(status.agent_uid, since, page.first_held - 1):
                yield event
        for event in page.events:
            if event.seq > since:
                yield event

    async def page(self, name: str, since: int) -> EventsPage:
        """The events after `since` that the workflow still holds."""
        return await self.workflows.query(name, "events", [since], EventsPage)

    async def stored(self, uid: str, since: int, until: int) -> AsyncIterator[Event]:
        """The events after `since` up to and including `until`, from the store, without gaps.

        Raises:
            GatewayFailed: one is missing.
        """
        for key in self._covering(await self._keys(uid), since):
            for event in await self._segment(key):
                if since < event.seq <= until:
                    if event.seq != since + 1:
                        break
                    since = event.seq
                    yield event
            if since >= until:
                return
        raise GatewayFailed(f"The event log lacks event {since + 1}: a segment is missing from the store.")

    async def turn_end(self, status: AgentStatus, message_id: str) -> Event | None:
        """The event that ended the turn of a message, looked for from the newest to the oldest."""
        ends = {EventKind.TURN_FINISHED, EventKind.INTERRUPTED}
        async for event in self.newest_first(status):
            if event.kind in ends and told_in(event, message_id):
                return event
        return None

    async def newest_first(self, status: AgentStatus) -> AsyncGenerator[Event]:
        """All events, from the newest to the oldest."""
        page = await self.page(status.agent_id, 0)
        for event in reversed(page.events):
            yield event
        before = page.first_held
        for key in reversed(await self._keys(status.agent_uid)):
            for event in reversed(await self._segment(key)):
                # The workflow still holds some of what it has written.
                if event.seq < before:
                    before = event.seq
                    yield event
            # A long log is read in many short steps: others have their turn between them.
            await asyncio.sleep(0)

    async def _keys(self, uid: str) -> list[str]:
        prefix = StoreKeys.events(uid, 0).rpartition("/")[0] + "/"
        return [info.key async for info in self.store.list(prefix)]

    @staticmethod
    def _covering(keys: list[str], since: int) -> list[str]:
        """The segments from the one that holds event `since` + 1 on; a segment's name is its first event's number."""
        begun = [key for key in keys if int(key.rpartition("/")[2].partition(".")[0]) <= since + 1]
        return keys[max(0, len(begun) - 1) :]

    async def _segment(self, key: str) -> tuple[Event, ...]:
        try:
            return _SEGMENT.validate_json(await self.store.get(key))
        except ValidationError as error:
            log.warning("segment %s cannot be read: %s", key, error)
            raise GatewayFailed(f"The event log is damaged: segment {key} cannot be read.") from error


def told_in(event: Event, message_id: str) -> bool:
    """Whether the end of a turn is the end of a message: its own, or one that steered it."""
    joined = event.data.get("joined")
    return event.data.get("message_id") == message_id or (isinstance(joined, list) and message_id in joined)
