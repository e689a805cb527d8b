"""What an agent's commands wrote, from the store through the gateway, and while one runs from its heartbeats too."""

import asyncio
import codecs
import time
from collections.abc import AsyncGenerator, Callable, Generator
from functools import partial
from typing import Literal
from urllib.parse import quote

from hibernaut._gateway import GatewayClient, agent_path
from hibernaut._live import live_output
from hibernaut._temporal import Workflows
from hibernaut._waiting import GRACE, LAST_INTERVAL, Every, patiently
from hibernaut.contracts import LiveOutput
from hibernaut.errors import OutputMissing, Unavailable
from hibernaut.models import (
    CommandOutcome,
    Event,
    EventKind,
    LogChunk,
    LogEnd,
    LogEntry,
    LoggedCommand,
    LoggedCommands,
    LogStart,
    OutcomeKind,
)

CHUNK = 256 * 1024
LOOK_EVERY = 0.7
"""Seconds between two looks; heartbeats come once a second."""
CHECK_CLOSED_EVERY = 5.0

StreamName = Literal["stdout", "stderr"]
STREAMS: tuple[StreamName, StreamName] = ("stdout", "stderr")
EventsSince = Callable[[int], AsyncGenerator[Event]]


class LogReader:
    """Reads the logs of one agent; see `AgentHandle.logs`."""

    def __init__(self, agent_id: str, workflows: Workflows, gateway: GatewayClient, events: EventsSince) -> None:
        """`events` yields what happened after an event's number and ends with the newest."""
        self._agent_id = agent_id
        self._workflows = workflows
        self._gateway = gateway
        self._events = events

    async def newest(self, tail: int | None, *, follow: bool) -> AsyncGenerator[LogEntry]:
        """The newest commands with their output, the one that runs, and then those to come."""
        since = 0
        if tail is not None:
            path = agent_path(self._agent_id, "exec")
            listed = LoggedCommands.model_validate(await self._gateway.get_json(path, {"limit": tail}))
            since = listed.last_event
            for command in listed.commands:
                if command.outcome is not None:
                    async for entry in self._told(command.outcome, None):
                        yield entry
        async for entry in self._after(since, follow=follow):
            yield entry

    async def one(self, exec_id: str, *, follow: bool) -> AsyncGenerator[LogEntry]:
        """One command from its first byte on.

        Raises:
            OutputMissing: there is no such command, or the store lacks a part of what it wrote.
        """
        command = await self._command(exec_id)
        output = self._output(exec_id)
        yield LogStart(exec_id=exec_id, command=command.command)
        while command.outcome is None:
            live = await patiently(self._live)
            async for chunk in output.grown(live if live and live.exec_id == exec_id else None):
                yield chunk
            if not follow:
                return
            await asyncio.sleep(LOOK_EVERY)
            command = await patiently(partial(self._command, exec_id))
        async for chunk in output.ended(command.outcome):
            yield chunk
        if output.missing is not None:
            raise output.missing
        yield LogEnd(exec_id=exec_id, outcome=command.outcome)

    async def _after(self, since: int, *, follow: bool) -> AsyncGenerator[LogEntry]:
        begun: dict[str, _Output] = {}
        check = Every(CHECK_CLOSED_EVERY)
        while True:
            async for event in self._events(since):
                since = event.seq
                if event.kind is EventKind.COMMAND:
                    outcome = CommandOutcome.model_validate(event.data)
                    async for entry in self._told(outcome, begun.pop(outcome.exec_id, None)):
                        yield entry
                follow = follow and event.kind is not EventKind.CLOSED
            # After the events: what runs now has not been told by them.
            async for entry in self._running(begun):
                yield entry
            if not follow:
                return
            if check.due() and not await patiently(partial(self._workflows.is_open, self._agent_id)):
                # Once more, for what happened between the last look and the end.
                follow = False
                continue
            await asyncio.sleep(LOOK_EVERY)

    async def _running(self, begun: "dict[str, _Output]") -> AsyncGenerator[LogEntry]:
        live = await patiently(self._live)
        if live is None:
            return
        if live.exec_id not in begun:
            # The command before it has ended, and whatever of it goes to the store is there: told in one piece.
            for output in begun.values():
                async for chunk in output.grown(None):
                    yield chunk
            begun[live.exec_id] = self._output(live.exec_id)
            yield LogStart(exec_id=live.exec_id, command=live.command)
        async for chunk in begun[live.exec_id].grown(live):
            yield chunk

    async def _told(self, outcome: CommandOutcome, output: "_Output | None") -> AsyncGenerator[LogEntry]:
        if output is None:
            output = self._output(outcome.exec_id)
            yield LogStart(exec_id=outcome.exec_id, command=outcome.command)
        async for chunk in output.ended(outcome):
            yield chunk
        missing = output.missing.message if output.missing else ""
        yield LogEnd(exec_id=outcome.exec_id, outcome=outcome, missing=missing)

    async def _command(self, exec_id: str) -> LoggedCommand:
        return LoggedCommand.model_validate(await self._gateway.get_json(_path(self._agent_id, exec_id)))

    async def _live(self) -> LiveOutput | None:
        return await live_output(self._workflows, self._agent_id)

    def _output(self, exec_id: str) -> "_Output":
        return _Output(self._agent_id, exec_id, self._gateway)


class _Output:
    """How far the output of one command has been read."""

    def __init__(self, agent_id: str, exec_id: str, gateway: GatewayClient) -> None:
        self.missing: OutputMissing | None = None
        self._exec_id = exec_id
        self._path = _path(agent_id, exec_id)
        self._gateway = gateway
        self._at = dict.fromkeys(STREAMS, 0)
        decoder = codecs.getincrementaldecoder("utf-8")
        self._decoders = {stream: decoder("replace") for stream in STREAMS}

    async def grown(self, live: LiveOutput | None) -> AsyncGenerator[LogChunk]:
        """What is new of a command that may still run: first what the store has, then the newest heartbeat."""
        for stream in STREAMS:
            async for chunk in self._stored(stream):
                yield chunk
        if live is not None:
            for chunk in self._taken("stdout", live.stdout, live.stdout_bytes):
                yield chunk
            for chunk in self._taken("stderr", live.stderr, live.stderr_bytes):
                yield chunk

    async def ended(self, outcome: CommandOutcome) -> AsyncGenerator[LogChunk]:
        """The rest of a command that ended; `missing` says when the store lacks a part of it."""
        heads = {"stdout": outcome.stdout_head, "stderr": outcome.stderr_head}
        sizes = {"stdout": outcome.stdout_bytes, "stderr": outcome.stderr_bytes}
        for stream in STREAMS:
            if len(heads[stream].encode()) == sizes[stream]:
                for chunk in self._taken(stream, heads[stream], sizes[stream]):
                    yield chunk
            # Of a command whose end nobody saw, nobody knows how much it wrote.
            if self._at[stream] < sizes[stream] or outcome.kind is OutcomeKind.UNKNOWN:
                try:
                    async for chunk in self._stored(stream):
                        yield chunk
                except OutputMissing as error:
                    self.missing = error if sizes[stream] else self.missing
            if rest := self._decoders[stream].decode(b"", final=True):
                yield self._chunk(stream, rest, b"")

    async def _stored(self, stream: StreamName) -> AsyncGenerator[LogChunk]:
        """From where we are to the end of what the store has, on through short absences of the gateway."""
        ends = time.monotonic() + GRACE
        while True:
            try:
                params = {"from": self._at[stream]}
                async with self._gateway.stream(f"{self._path}/{stream}", params) as response:
                    async for data in response.aiter_bytes(CHUNK):
                        yield self._next(stream, data)
                return
            except Unavailable as error:
                if not error.retryable or time.monotonic() > ends:
                    raise
                await asyncio.sleep(LAST_INTERVAL)

    def _taken(self, stream: StreamName, text: str, end: int) -> Generator[LogChunk]:
        """What is new in a text that ends at byte `end` of the stream, unless there is a gap before it."""
        # Where U+FFFD stands for other bytes, only what follows has a known place.
        data = text.rpartition("\N{REPLACEMENT CHARACTER}")[2].encode()
        begin, at = end - len(data), self._at[stream]
        if begin <= at < end:
            yield self._next(stream, data[at - begin :])

    def _next(self, stream: StreamName, data: bytes) -> LogChunk:
        chunk = self._chunk(stream, self._decoders[stream].decode(data), data)
        self._at[stream] += len(data)
        return chunk

    def _chunk(self, stream: StreamName, text: str, data: bytes) -> LogChunk:
        return LogChunk(exec_id=self._exec_id, stream=stream, offset=self._at[stream], text=text, data=data)


def _path(agent_id: str, exec_id: str) -> str:
    return agent_path(agent_id, f"exec/{quote(exec_id, safe='')}")
