"""shell.exec: the commands of one tool call, in order, each at most once."""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Iterable
from datetime import UTC, datetime
from typing import BinaryIO

from temporalio import activity

from activities.errors import SandboxLost
from activities.heartbeat import Pulse, beating
from activities.ports.sandbox import CommandEnd, CommandRequest, Sandboxes
from activities.ports.store import ObjectStore
from activities.records import ExecRecord, ExecutedCommand, OutputWindow
from activities.transcript import Transcript
from hibernaut.contracts import SHELL_EXEC, ExecRequest, ExecResult, StoreKeys
from hibernaut.models import CommandOutcome, OutcomeKind

COMMAND_HEAD = 2_000
OUTPUT_HEAD = 300
SPOOL_BYTES = 4 << 20
"""Output kept in memory before it goes to a temporary file on its way to the store."""
PIECE = 1 << 20


class ShellActivities:
    """Runs on a sandbox host's own queue."""

    def __init__(self, sandboxes: Sandboxes, store: ObjectStore, transcript: Transcript) -> None:
        """Use this host's sandboxes."""
        self._sandboxes = sandboxes
        self._store = store
        self._transcript = transcript

    @activity.defn(name=SHELL_EXEC.name)
    async def exec(self, request: ExecRequest) -> ExecResult:
        """Run the commands; a cancellation ends the one under way with its process group.

        A retry attaches to what an earlier attempt began, or returns what it finished: no command runs twice.

        Raises:
            InvalidCommand: A command cannot be handed to a shell; none of them ran.
            SandboxUnavailable: The daemon does not answer; a retry attaches.
        """
        commands = request.commands
        if request.segment_ref is not None:
            commands = await self._transcript.commands_of(request.segment_ref, request.call_id)
        work = _Work(self._sandboxes, self._store, request)
        executed: list[ExecutedCommand] = []
        lost: str | None = None
        interrupted = False
        async with beating() as pulse:
            for index, command in enumerate(commands):
                exec_id = f"{request.exec_prefix}-i{index}"
                if lost is not None or interrupted:
                    # An earlier attempt of this activity may have come further than this one can see.
                    seen = lost is None or activity.info().attempt == 1
                    kind = OutcomeKind.NOT_RUN if seen else OutcomeKind.UNKNOWN
                    executed.append(ExecutedCommand(exec_id=exec_id, command=command, kind=kind))
                    continue
                done, lost = await work.run(exec_id, command, pulse)
                interrupted = done.kind is OutcomeKind.INTERRUPTED
                executed.append(done)
            record_ref = await self._keep(request, executed)
        return ExecResult(record_ref=record_ref, outcomes=tuple(_outcome(done) for done in executed), lost=lost)

    async def _keep(self, request: ExecRequest, executed: Iterable[ExecutedCommand]) -> str:
        ref = StoreKeys.exec_record(request.agent_uid, request.exec_prefix)
        record = ExecRecord(
            agent_uid=request.agent_uid,
            exec_prefix=request.exec_prefix,
            call_id=request.call_id,
            commands=tuple(executed),
            max_output_length=request.max_output_length,
            created_at=datetime.now(UTC),
        )
        await self._store.put(ref, record.model_dump_json().encode())
        return ref


class _Work:
    """What the commands of one call share."""

    def __init__(self, sandboxes: Sandboxes, store: ObjectStore, request: ExecRequest) -> None:
        self._sandboxes = sandboxes
        self._store = store
        self._request = request
        self._cancelled = False

    async def run(self, exec_id: str, command: str, pulse: Pulse) -> tuple[ExecutedCommand, str | None]:
        """One command to its end; and why the sandbox is gone, when it is."""
        request = self._request
        pulse.say(f"$ {command[:200]}")
        with (
            tempfile.SpooledTemporaryFile(SPOOL_BYTES) as out,
            tempfile.SpooledTemporaryFile(SPOOL_BYTES) as err,
        ):
            windows = {
                "stdout": OutputWindow(request.max_output_length),
                "stderr": OutputWindow(request.max_output_length),
            }
            spools = {"stdout": out, "stderr": err}

            def sink(stream: str, data: bytes) -> None:
                windows[stream].feed(data)
                spools[stream].write(data)

            running = asyncio.create_task(
                self._sandboxes.run(
                    request.lease.sandbox_id,
                    CommandRequest(exec_id=exec_id, command=command, timeout_ms=request.timeout_ms),
                    sink,
                    lambda: self._cancelled,
                )
            )
            try:
                end = await self._to_the_end(running)
            except SandboxLost as error:
                # An earlier attempt of this activity may have started what this one finds no trace of.
                started = error.started or activity.info().attempt > 1
                kind = OutcomeKind.UNKNOWN if started else OutcomeKind.NOT_RUN
                return ExecutedCommand(exec_id=exec_id, command=command, kind=kind), str(error)
            stdout, cut_out = windows["stdout"].render()
            stderr, cut_err = windows["stderr"].render()
            for name, text, cut in (("stdout", stdout, cut_out), ("stderr", stderr, cut_err)):
                # What the record shows whole needs no object of its own; bytes that are no text are not shown whole.
                if cut or "\ufffd" in text:
                    key = StoreKeys.exec_stream(request.agent_uid, exec_id, name)
                    await self._store.put_stream(key, _pieces(spools[name]))
        done = ExecutedCommand(
            exec_id=exec_id,
            command=command,
            kind=OutcomeKind(end.kind),
            exit_code=end.exit_code,
            stdout=stdout,
            stderr=stderr,
            truncated=cut_out or cut_err,
            stdout_bytes=end.stdout_bytes,
            stderr_bytes=end.stderr_bytes,
            duration_ms=end.duration_ms,
        )
        return done, None

    async def _to_the_end(self, running: "asyncio.Task[CommandEnd]") -> CommandEnd:
        while True:
            try:
                return await asyncio.shield(running)
            except asyncio.CancelledError:
                if running.done():
                    raise
                # The workflow wants the command ended and its partial output kept; a worker that shuts down
                # leaves it running for the next attempt to attach to.
                if activity.is_worker_shutdown():
                    running.cancel()
                    raise
                self._cancelled = True


def _outcome(done: ExecutedCommand) -> CommandOutcome:
    return CommandOutcome(
        exec_id=done.exec_id,
        command=done.command[:COMMAND_HEAD],
        kind=done.kind,
        exit_code=done.exit_code,
        stdout_head=done.stdout[:OUTPUT_HEAD],
        stderr_head=done.stderr[:OUTPUT_HEAD],
        stdout_bytes=done.stdout_bytes,
        stderr_bytes=done.stderr_bytes,
        truncated=done.truncated,
        duration_ms=done.duration_ms,
    )


async def _pieces(spool: "tempfile.SpooledTemporaryFile[bytes] | BinaryIO") -> AsyncIterator[bytes]:
    spool.seek(0)
    while piece := await asyncio.to_thread(spool.read, PIECE):
        yield piece
