"""shell.exec: the commands of one tool call, in order, each at most once."""

import asyncio
from collections.abc import AsyncGenerator, Iterable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime

from temporalio import activity

from activities.audit_digests import Digests
from activities.errors import SandboxLost, StoreError
from activities.heartbeat import INTERVAL_S, Pulse, beating
from activities.output_log import STREAMS, OutputLog, Tail
from activities.ports.egress import Egress
from activities.ports.sandbox import CommandEnd, CommandRequest, Sandboxes
from activities.ports.store import ObjectStore
from activities.records import ExecRecord, ExecutedCommand, OutputWindow
from activities.transcript import Transcript
from hibernaut.contracts import SHELL_EXEC, ExecRequest, ExecResult, LiveOutput, StoreKeys
from hibernaut.models import CommandOutcome, OutcomeKind
from hibernaut.models.network_change import NetworkReport

COMMAND_HEAD = 2_000
OUTPUT_HEAD = 300
LIVE_COMMAND = 200


class ShellActivities:
    """Runs on a sandbox host's own queue."""

    def __init__(
        self,
        sandboxes: Sandboxes,
        store: ObjectStore,
        transcript: Transcript,
        egress: Egress | None = None,
        digests: Digests | None = None,
    ) -> None:
        """Use this host's sandboxes; `egress` knows what became of their connections."""
        self._egress = egress
        self._digests = digests or Digests()
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
        work = _Work(self._sandboxes, self._store, request, self._digests)
        executed: list[ExecutedCommand] = []
        async with beating() as pulse:
            for index, command in enumerate(commands):
                executed.append(await work.run(f"{request.exec_prefix}-i{index}", command, pulse))
            record_ref = await self._keep(request, executed)
            network = await self._connections(request)
        outcomes = tuple(_outcome(done) for done in executed)
        return ExecResult(record_ref=record_ref, outcomes=outcomes, lost=work.lost, network=network)

    async def _connections(self, request: ExecRequest) -> NetworkReport | None:
        """What was decided about connections since it was told last; none when there is nothing to tell."""
        if self._egress is None:
            return None
        report = await asyncio.to_thread(self._egress.report, request.lease.sandbox_id, request.network_mark)
        return report if report.decisions or report.more else None

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

    def __init__(self, sandboxes: Sandboxes, store: ObjectStore, request: ExecRequest, digests: Digests) -> None:
        self._digests = digests
        self._sandboxes = sandboxes
        self._store = store
        self._request = request
        self._cancelled = request.stop
        self._interrupted = False
        self._gone = False
        self.lost: str | None = None
        """Why the sandbox is gone, or what ran in it, when it is."""

    async def run(self, exec_id: str, command: str, pulse: Pulse) -> ExecutedCommand:
        """One command to its end, or what is known of it when no more is to be started."""
        # An earlier attempt, or an earlier request, may have come further than this one can see.
        first = activity.info().attempt == 1 and not self._request.asked_before
        if self._gone or (self._interrupted and first):
            kind = OutcomeKind.NOT_RUN if first else OutcomeKind.UNKNOWN
            told = self._digests.of(command.encode("utf-8", "surrogatepass"))
            return ExecutedCommand(exec_id=exec_id, command=command, kind=kind, command_digest=told)
        output = _Output(self._store, self._request, exec_id, command, self._digests)
        asked = CommandRequest(
            exec_id=exec_id,
            command=command,
            timeout_ms=self._request.timeout_ms,
            started_at=self._request.lease.started_at,
            max_output_bytes=self._request.max_output_bytes,
            attach_only=self._request.attach_only or self.lost is not None or self._interrupted,
        )
        try:
            async with output.live(pulse):
                end = await self._to_the_end(asked, output)
        except SandboxLost as error:
            self.lost = self.lost or str(error)
            if error.end is None:
                self._gone = True
                # What came before it went is all there will ever be.
                kind = OutcomeKind.UNKNOWN if error.started or not first else OutcomeKind.NOT_RUN
                return await output.kept(CommandEnd(kind, None, 0, *output.sizes))
            # It was restarted: its journal knows what became of this command, and of those after it.
            end = error.end
        # One that wrote too much was ended for its own sake: those after it run.
        ended = end.kind is OutcomeKind.INTERRUPTED and not end.detail
        self._interrupted = self._interrupted or self._cancelled or ended
        return await output.kept(end)

    async def _to_the_end(self, asked: CommandRequest, output: "_Output") -> CommandEnd:
        running = asyncio.create_task(
            self._sandboxes.run(self._request.lease.sandbox_id, asked, output.feed, lambda: self._cancelled)
        )
        while True:
            try:
                return await asyncio.shield(running)
            except asyncio.CancelledError:
                if running.done():
                    raise
                details = activity.cancellation_details()
                if details is not None and details.cancel_requested and not activity.is_worker_shutdown():
                    # The workflow wants the command ended and its partial output kept.
                    self._cancelled = True
                    continue
                # The worker shuts down, or another attempt has taken this one's place: the command runs on for it.
                running.cancel()
                raise
            finally:
                if not running.done() and not self._cancelled:
                    running.cancel()


class _Output:
    """What one command writes: trimmed for the model, its newest for the heartbeat, the whole for the store."""

    def __init__(self, store: ObjectStore, request: ExecRequest, exec_id: str, command: str, digests: Digests) -> None:
        self._exec_id, self._command = exec_id, command
        self._digests = digests
        self._digest = {name: digests.begin() for name in STREAMS}
        self._windows = {name: OutputWindow(request.max_output_length) for name in STREAMS}
        self._tails = {name: Tail() for name in STREAMS}
        self._log = OutputLog(store, request.agent_uid, exec_id)

    @property
    def sizes(self) -> tuple[int, int]:
        """Bytes of stdout and stderr seen so far."""
        return self._windows["stdout"].total, self._windows["stderr"].total

    async def feed(self, stream: str, data: bytes) -> None:
        """Take the next bytes of a stream."""
        self._windows[stream].feed(data)
        self._tails[stream].feed(data)
        self._digest[stream].update(data)
        await self._log.write(stream, data)

    @asynccontextmanager
    async def live(self, pulse: Pulse) -> AsyncGenerator[None]:
        """Tell the newest output with every heartbeat, and keep writing what came to the store, during the block."""
        self._say(pulse)

        async def tell() -> None:
            while True:
                await asyncio.sleep(INTERVAL_S)
                self._say(pulse)
                # While the store does not answer the command runs on: what is pending is written later.
                with suppress(StoreError):
                    await self._log.tick()

        telling = asyncio.create_task(tell())
        try:
            yield
        finally:
            telling.cancel()
            with suppress(asyncio.CancelledError):
                await telling

    async def kept(self, end: CommandEnd) -> ExecutedCommand:
        """The record of the command, once what the record does not show whole is in the store."""
        stdout, cut_out = self._windows["stdout"].render()
        stderr, cut_err = self._windows["stderr"].render()
        shown = {"stdout": (stdout, cut_out), "stderr": (stderr, cut_err)}
        # Bytes that are no text are not shown whole.
        await self._log.finish(wanted=tuple(name for name, (text, cut) in shown.items() if cut or "\ufffd" in text))
        return ExecutedCommand(
            exec_id=self._exec_id,
            command=self._command,
            kind=end.kind,
            exit_code=end.exit_code,
            stdout=stdout,
            stderr=stderr,
            truncated=cut_out or cut_err,
            stdout_bytes=end.stdout_bytes,
            stderr_bytes=end.stderr_bytes,
            duration_ms=end.duration_ms,
            background=end.background,
            detail=end.detail,
            command_digest=self._digests.of(self._command.encode("utf-8", "surrogatepass")),
            stdout_digest=self._digests.told(self._digest["stdout"]),
            stderr_digest=self._digests.told(self._digest["stderr"]),
        )

    def _say(self, pulse: Pulse) -> None:
        stdout, out_at = self._tails["stdout"].read()
        stderr, err_at = self._tails["stderr"].read()
        pulse.say(
            LiveOutput(
                exec_id=self._exec_id,
                command=self._command[:LIVE_COMMAND],
                stdout_bytes=out_at,
                stderr_bytes=err_at,
                stdout=stdout,
                stderr=stderr,
            )
        )


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
        background=done.background,
        detail=done.detail,
        command_digest=done.command_digest,
        stdout_digest=done.stdout_digest,
        stderr_digest=done.stderr_digest,
    )
