"""What commands wrote: the newest commands, one command, its stdout and stderr while it runs and afterwards."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Literal, cast

from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import Response

from activities.errors import ObjectNotFound
from activities.ports.store import ObjectStore
from activities.records import ExecRecord, ExecutedCommand
from hibernaut._live import live_output
from hibernaut._temporal import Workflows
from hibernaut.contracts import StoreKeys
from hibernaut.errors import GatewayFailed, InvalidRequest, OutputMissing
from hibernaut.models import AgentStatus, CommandOutcome, Event, EventKind, LoggedCommand, LoggedCommands
from workers.gateway import requests
from workers.gateway.events import Events
from workers.gateway.streams import streamed

COMPLETE = "X-Hibernaut-Complete"
"""Whether the command has ended and nothing will follow what is answered here."""
SIZE = "X-Hibernaut-Size"
"""Bytes of the stream that are there, whatever part of them was asked for."""
NEWEST = 20
MOST = 1_000
STREAMS = frozenset({"stdout", "stderr"})
StreamName = Literal["stdout", "stderr"]


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a stream: so many bytes of an object, from `start` on."""

    key: str
    start: int
    length: int


@dataclass(frozen=True, slots=True)
class Execs:
    """The routes under `/v1/agents/{id}/exec`."""

    workflows: Workflows
    store: ObjectStore
    events: Events

    async def newest(self, request: Request) -> Response:
        """GET: the newest commands, the newest last; the one that runs among them."""
        limit = requests.number(requests.query(request), "limit", NEWEST, most=MOST)
        status = await self._status(request)
        found: dict[str, LoggedCommand] = {}
        if limit and (live := await live_output(self.workflows, status.agent_id)) is not None:
            found[live.exec_id] = LoggedCommand(exec_id=live.exec_id, command=live.command)
        if len(found) < limit:
            async for event in self.events.newest_first(status):
                # What became an event meanwhile is after `last_event`, and for the caller to come.
                if event.kind is EventKind.COMMAND and event.seq <= status.last_event:
                    command = _told(event)
                    found.setdefault(command.exec_id, command)
                if len(found) >= limit:
                    break
        commands = tuple(reversed(found.values()))
        body = LoggedCommands(commands=commands, last_event=status.last_event)
        return Response(body.model_dump_json(), media_type="application/json")

    async def one(self, request: Request) -> Response:
        """GET: of an exec id, the command and how it ended; of a prefix, the record of the whole tool call."""
        name = requests.item_id(request, "exec_id")
        status = await self._status(request)
        prefix = _prefix(name)
        if prefix is None:
            return await streamed(
                self.store.stream(StoreKeys.exec_record(status.agent_uid, name)), media_type="application/json"
            )
        command = await self._command(status, prefix, name)
        return Response(command.model_dump_json(), media_type="application/json")

    async def output(self, request: Request) -> Response:
        """GET: one command's stdout or stderr from a byte on, as far as it is in the store."""
        stream = str(request.path_params["stream"])
        if stream not in STREAMS:
            raise InvalidRequest(f"A command has stdout and stderr, not {stream[:40]!r}.")
        start = requests.number(requests.query(request), "from", 0)
        exec_id = requests.item_id(request, "exec_id")
        status = await self._status(request)
        prefix = _prefix(exec_id) or exec_id
        # In this order: a command that had ended when it was asked for has written all its pieces before.
        record = await self._record(status, prefix)
        complete = not await self._runs(status, prefix, record)
        command = _of(record, exec_id) if complete else None
        pieces, size, gap = await self._pieces(StoreKeys.exec_chunks(status.agent_uid, exec_id, stream))
        headers = {COMPLETE: str(complete).lower()}
        if not pieces and gap is None:
            if command is None and complete:
                raise OutputMissing(f"Agent {status.agent_id} has no output of a command {exec_id}.")
            return _inline(command, cast("StreamName", stream), start, headers)
        written = size if command is None else _written(command, cast("StreamName", stream))
        if complete and (gap is not None or size < written):
            raise OutputMissing(
                f"The {stream} of {exec_id} is not whole: the bytes from {size:,} to {gap or written:,} are missing "
                "from the store."
            )
        headers |= {SIZE: str(size), "Content-Length": str(max(0, size - start))}
        return await streamed(self._content(pieces, start), headers=headers)

    async def _status(self, request: Request) -> AgentStatus:
        return await self.workflows.query(requests.agent_id(request), "status", [], AgentStatus)

    async def _runs(self, status: AgentStatus, prefix: str, record: ExecRecord | None) -> bool:
        """Whether a tool call goes on: one whose sandbox was lost has a record and may yet write another."""
        if status.exec_prefix == prefix or record is not None:
            return status.exec_prefix == prefix
        # Commands that are run again after a recovery belong to no call.
        live = await live_output(self.workflows, status.agent_id)
        return live is not None and _prefix(live.exec_id) == prefix

    async def _record(self, status: AgentStatus, prefix: str) -> ExecRecord | None:
        key = StoreKeys.exec_record(status.agent_uid, prefix)
        try:
            return ExecRecord.model_validate_json(await self.store.get(key))
        except ObjectNotFound:
            return None
        except ValidationError as error:
            raise GatewayFailed(f"The record of the tool call {prefix} cannot be read.") from error

    async def _command(self, status: AgentStatus, prefix: str, exec_id: str) -> LoggedCommand:
        record = await self._record(status, prefix)
        if await self._runs(status, prefix, record):
            live = await live_output(self.workflows, status.agent_id)
            return LoggedCommand(
                exec_id=exec_id, command=live.command if live is not None and live.exec_id == exec_id else ""
            )
        if (done := _of(record, exec_id)) is not None:
            outcome = CommandOutcome.model_validate(done.model_dump(exclude={"stdout", "stderr"}))
            return LoggedCommand(exec_id=exec_id, command=done.command, outcome=outcome)
        # A call whose activity failed for good left no record.
        async for event in self.events.newest_first(status):
            if event.kind is EventKind.COMMAND and event.data.get("exec_id") == exec_id:
                return _told(event)
        raise OutputMissing(
            f"Agent {status.agent_id} has no command {exec_id}.",
            agent_id=status.agent_id,
            hint=f"`hibernaut logs {status.agent_id}` names the newest.",
        )

    async def _pieces(self, prefix: str) -> tuple[list[Piece], int, int | None]:
        """The pieces without overlaps, the bytes up to their end or the first gap, and where that gap ends."""
        pieces: list[Piece] = []
        size = 0
        async for info in self.store.list(prefix):
            offset = int(info.key.rpartition("/")[2])
            if offset > size:
                return pieces, size, offset
            # A worker that took over may have cut the stream elsewhere than the one before it.
            if (fresh := offset + info.size - size) > 0:
                pieces.append(Piece(info.key, size - offset, fresh))
                size += fresh
        return pieces, size, None

    async def _content(self, pieces: list[Piece], start: int) -> AsyncIterator[bytes]:
        at = 0
        for piece in pieces:
            skip, left = max(0, start - at), piece.length
            at += piece.length
            left -= skip
            if left <= 0:
                continue
            async for data in self.store.stream(piece.key, start=piece.start + skip):
                yield data[:left]
                left -= len(data)
                if left <= 0:
                    break


def _prefix(exec_id: str) -> str | None:
    """The tool call of an exec id; None of what is none."""
    prefix, mark, index = exec_id.rpartition("-i")
    return prefix if mark and prefix and index.isdecimal() else None


def _of(record: ExecRecord | None, exec_id: str) -> ExecutedCommand | None:
    commands = record.commands if record else ()
    return next((command for command in commands if command.exec_id == exec_id), None)


def _told(event: Event) -> LoggedCommand:
    outcome = CommandOutcome.model_validate(event.data)
    return LoggedCommand(exec_id=outcome.exec_id, command=outcome.command, outcome=outcome, told_at=event.at)


def _written(command: ExecutedCommand, stream: StreamName) -> int:
    return command.stdout_bytes if stream == "stdout" else command.stderr_bytes


def _inline(command: ExecutedCommand | None, stream: StreamName, start: int, headers: dict[str, str]) -> Response:
    """Output that the model was shown whole is in the record alone; of a command that runs there is none yet."""
    text = getattr(command, stream, "") if command else ""
    content = text.encode()
    if command is not None and len(content) != (written := _written(command, stream)):
        raise OutputMissing(
            f"The {stream} of {command.exec_id} is not whole: of its {written:,} bytes the store has only what the "
            "model was shown."
        )
    headers |= {SIZE: str(len(content))}
    return Response(content[start:], media_type="application/octet-stream", headers=headers)
