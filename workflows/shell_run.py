"""One shell call: its commands in the sandbox, at most once, until it is known what became of them."""

from collections.abc import Iterable, Sequence
from datetime import timedelta

from temporalio import workflow
from temporalio.exceptions import ActivityError

from hibernaut import contracts
from hibernaut.models import AgentState as State, CommandOutcome, LeaseStatus, OutcomeKind, ToolCall
from workflows import options
from workflows.answers import Answers
from workflows.context import Context
from workflows.dirty import DirtyCommand
from workflows.failures import code_of, finding_of, reason_of
from workflows.ladder import Finding
from workflows.lease import Lease
from workflows.loss import Loss, Recovered
from workflows.network import tell_connections
from workflows.outcomes import shown_line, unknown
from workflows.safety import is_safe

EXEC_MARGIN = timedelta(seconds=60)
"""What an exec may take beyond the commands' own limits: the kill, the output's way to the store."""
OUTCOME_COMMAND = 2_000
"""Characters an outcome tells of its command at most."""
STOP_PATIENCE = timedelta(seconds=60)
"""What a stop may take whose exec was lost when it was cancelled."""


class ShellRun:
    """One call's commands in the sandbox; asked again under the same ids until it is known what became of them."""

    def __init__(self, context: Context, lease: Lease, call: ToolCall, prefix: str, segment_ref: str) -> None:
        self._context = context
        self._record = context.record
        self._lease = lease
        self._call = call
        self._prefix = prefix
        self._segment_ref = segment_ref
        self._result: contracts.ExecResult | None = None
        self._asked = False

    async def to_the_end(self, answers: Answers) -> bool:
        """Run them and answer the call; False when the sandbox was lost under them."""
        self._context.show(State.RUNNING, f"`$ {shown_line(self._call)[:120]}`")
        self._context.exec_prefix = self._prefix
        try:
            return await self._until_known(answers)
        finally:
            self._context.exec_prefix = None

    async def _until_known(self, answers: Answers) -> bool:
        record, call = self._record, self._call
        while True:
            lease = record.lease
            if lease is None:
                raise RuntimeError("a call is about to run without a sandbox")
            try:
                result = self._result = await self._exec(lease)
            except ActivityError as error:
                finding = finding_of(error)
                if finding is Finding.FAILED:
                    return await self._ended(answers, lease, error)
                # What an earlier request found may hold no more.
                self._result = None
                loss = Loss(reason_of(error), finding, lease.generation, uncertain=self._every())
            else:
                finished, uncertain = self._split(result.outcomes)
                held = record.lease is not None and record.lease.generation == lease.generation
                if result.lost is None and held:
                    record.dirty += [*finished, *uncertain]
                    answers.ran(call, self._named(result))
                    self._lease.begin_snapshot(f"$ {shown_line(call)}")
                    return True
                loss = Loss(
                    result.lost or "the sandbox was lost meanwhile", Finding.LOST, lease.generation, finished, uncertain
                )
            loss.collect = self._collect
            if await self._lease.recover(loss) is not Recovered.INTACT:
                if self._result is not None:
                    answers.ran(call, self._named(self._result))
                else:
                    answers.lost(call, unknown(call, self._prefix))
                if record.dirty:
                    self._lease.begin_snapshot("after recovery")
                return False

    async def _collect(self) -> tuple[Sequence[DirtyCommand], Sequence[DirtyCommand]] | None:
        """Ask the journal of a restarted container what finished and what stays uncertain; none if it is gone."""
        lease = self._record.lease
        if lease is None:
            return (), self._every()
        result = await self._exec(lease, attach_only=True)
        if result.lost is not None:
            return None
        self._result = result
        return self._split(result.outcomes)

    async def _exec(self, lease: LeaseStatus, *, attach_only: bool = False) -> contracts.ExecResult:
        record, call = self._record, self._call
        shown = shown_line(call)
        asked_before, self._asked = self._asked, True
        handle = options.start(
            contracts.SHELL_EXEC,
            self._request(lease, attach_only=attach_only, asked_before=asked_before),
            summary=f"recover: what became of $ {shown}" if attach_only else f"$ {shown}",
            task_queue=lease.task_queue,
            start_to_close=timedelta(milliseconds=self._timeout_ms * len(call.commands)) + EXEC_MARGIN,
        )
        await workflow.wait_condition(lambda: handle.done() or record.stopping)
        if not handle.done():
            handle.cancel()
        result = await handle
        tell_connections(self._context, call.call_id, result.network)
        return result

    def _request(
        self, lease: LeaseStatus, *, attach_only: bool, asked_before: bool, stop: bool = False
    ) -> contracts.ExecRequest:
        spec, call = self._context.spec, self._call
        return contracts.ExecRequest(
            agent_uid=self._record.uid,
            lease=lease,
            exec_prefix=self._prefix,
            call_id=call.call_id,
            commands=call.commands,
            segment_ref=self._segment_ref if call.cut else None,
            timeout_ms=self._timeout_ms,
            max_output_length=min(call.max_output_length or spec.max_output_length, spec.max_output_length),
            max_output_bytes=spec.max_output_bytes,
            attach_only=attach_only,
            asked_before=asked_before,
            stop=stop,
            network_mark=self._record.network.mark,
        )

    @property
    def _timeout_ms(self) -> int:
        return self._call.timeout_ms or int(self._context.spec.command_timeout.total_seconds() * 1000)

    async def _ended(self, answers: Answers, lease: LeaseStatus, error: ActivityError) -> bool:
        """The exec failed for good; what a cancelled one may have left running is ended: it is not retried."""
        record, call = self._record, self._call
        if not record.stopping or code_of(error) == contracts.INVALID_COMMAND:
            return self._failed(answers, error)
        try:
            result = await options.call(
                contracts.SHELL_EXEC,
                self._request(lease, attach_only=True, asked_before=True, stop=True),
                summary=f"stop $ {shown_line(call)}",
                task_queue=lease.task_queue,
                schedule_to_close=STOP_PATIENCE,
            )
        except ActivityError:
            return self._failed(answers, error)
        tell_connections(self._context, call.call_id, result.network)
        finished, uncertain = self._split(result.outcomes)
        record.dirty += [*finished, *uncertain]
        answers.ran(call, self._named(result))
        self._lease.begin_snapshot("after a stop")
        return True

    def _failed(self, answers: Answers, error: ActivityError) -> bool:
        """The activity itself failed for good: its commands may or may not have run."""
        call, record, reason = self._call, self._record, reason_of(error)
        if code_of(error) == contracts.INVALID_COMMAND:
            answers.refused(call, reason)
            return True
        record.dirty += self._every()
        answers.lost(call, unknown(call, self._prefix))
        record.pending.append(contracts.Note(text=f"[hibernaut] The shell failed: {reason}."))
        self._lease.begin_snapshot("after a failed exec")
        return True

    @property
    def _stopped(self) -> OutcomeKind:
        """What to call the end of a command that was stopped: an activity cannot know why it was cancelled."""
        return OutcomeKind.CANCELLED if self._record.closing else OutcomeKind.INTERRUPTED

    def _named(self, result: contracts.ExecResult) -> contracts.ExecResult:
        outcomes = tuple(
            outcome.model_copy(update={"kind": self._stopped}) if outcome.kind is OutcomeKind.INTERRUPTED else outcome
            for outcome in result.outcomes
        )
        return result.model_copy(update={"outcomes": outcomes})

    def _split(self, outcomes: Iterable[CommandOutcome]) -> tuple[Sequence[DirtyCommand], Sequence[DirtyCommand]]:
        """The commands that ran to an end, and those of which that is not known."""
        finished: list[DirtyCommand] = []
        uncertain: list[DirtyCommand] = []
        for outcome in outcomes:
            if outcome.kind is not OutcomeKind.NOT_RUN:
                # The exec had the whole command, and cuts what it tells of it here and nowhere else.
                done = self._dirty(outcome.command, whole=len(outcome.command) < OUTCOME_COMMAND)
                (uncertain if outcome.kind is OutcomeKind.UNKNOWN else finished).append(done)
        return finished, uncertain

    def _every(self) -> Sequence[DirtyCommand]:
        return [self._dirty(command, whole=not self._call.cut) for command in self._call.commands]

    def _dirty(self, command: str, *, whole: bool) -> DirtyCommand:
        marked = self._call.retry_safe or is_safe(command, self._context.spec.retry_safe)
        return DirtyCommand.of(command, safe=whole and marked)
