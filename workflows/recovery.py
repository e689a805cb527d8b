"""Climbs the recovery ladder for a sandbox in trouble, and tells what was lost."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import Protocol

from temporalio import workflow
from temporalio.exceptions import ActivityError

from hibernaut import contracts
from hibernaut.models import AgentState, LeaseStatus, OutcomeKind, ReplayedCommand
from workflows import options
from workflows.acquire import choose
from workflows.context import Context
from workflows.dirty import DirtyCommand
from workflows.failures import finding_of, reason_of
from workflows.ladder import Finding, Rung, climb, first
from workflows.loss import Loss, Recovered
from workflows.report import Climbed, report_loss

PING_LEASES = 1.5
"""A host that has not answered for this many leases is given up: its watchdog froze its sandboxes after one."""
REPLAY_TIMEOUT = timedelta(minutes=1)
"""What a replay may take beyond the commands' own limits."""


class Holder(Protocol):
    """What recovery needs of the lease."""

    async def settle(self) -> None:
        """Wait until no snapshot is under way, and forget how the last one ended."""
        ...

    async def replace(self, placement: contracts.Placement | None, taken: list[str]) -> bool:
        """Hold a sandbox of the next generation; False when the turn is to end instead."""
        ...

    async def ruled(self) -> bool:
        """Wait until the sandbox has the newest network rules; False when it cannot be given them."""
        ...


class Recovery:
    """One climb at a time."""

    def __init__(self, context: Context, holder: Holder) -> None:
        """Work for this agent."""
        self._context = context
        self._record = context.record
        self._holder = holder
        self._climbing = asyncio.Lock()

    @property
    def climbing(self) -> bool:
        """Whether a sandbox is being brought back."""
        return self._climbing.locked()

    async def run(self, loss: Loss) -> Recovered:
        """Bring the sandbox back, or the next one in its place, and tell the model what was lost."""
        record, context = self._record, self._context
        async with self._climbing:
            if record.generation != loss.generation:
                if loss.finished or loss.uncertain:
                    self._tell(loss, loss.finished, [])
                return Recovered.REPLACED
            state = context.state
            context.recovering = True
            context.show(AgentState.RECOVERING, loss.reason)
            taken: list[str] = []
            try:
                await self._holder.settle()
                known = await self._worth_a_try(loss) and await self._climb(loss, taken)
            finally:
                context.recovering = False
            if not known:
                # Nobody knows what became of the sandbox: whoever needs it next finds out, and tells of these as well.
                record.dirty += [*loss.finished, *loss.uncertain]
                return Recovered.STOPPED
            busy = loss.how is Recovered.INTACT and loss.finding is Finding.UNCLAIMED
            if record.current is not None and not busy:
                record.current.recoveries += 1
            if loss.how is Recovered.RESTARTED:
                record.dirty += [*loss.finished, *loss.uncertain]
            if loss.how is not Recovered.INTACT:
                self._tell(loss, [*loss.gone, *loss.finished], taken, loss.requested)
            context.show(AgentState.PAUSED if record.paused else state)
            if loss.how is not Recovered.INTACT and context.spec.recovery == "pause" and not record.stopping:
                context.pause(f"recovered, and the spec wants a person to look (recovery: pause): {loss.reason}")
            return loss.how

    async def ping(self, lease: LeaseStatus) -> Finding:
        """Ask whether the host is there; its own queue has room when the host is full."""
        try:
            await options.call(
                contracts.HOST_PING,
                contracts.PingRequest(host_id=lease.host_id),
                summary=f"recover: is host {lease.host_id} there?",
                task_queue=contracts.control_queue(lease.host_id),
                schedule_to_close=timedelta(seconds=PING_LEASES * lease.lease_seconds),
            )
        except ActivityError:
            return Finding.SILENT
        return Finding.ANSWERED

    async def _worth_a_try(self, loss: Loss) -> bool:
        """Beyond the limit of a turn a person decides. False when the turn is to end."""
        record, limit = self._record, self._context.spec.max_recoveries
        current = record.current
        if current is None or current.recoveries < limit:
            return True
        current.recoveries = 0
        self._context.pause(
            f"recovery keeps failing: more than {limit} in this turn (max_recoveries), the last: {loss.reason}"
        )
        return await self._context.while_paused()

    async def _climb(self, loss: Loss, taken: list[str]) -> bool:
        """Climb to the end; False when the turn was ended before anything was known."""
        record = self._record
        steps = {
            Rung.PING: lambda: self._ping_held(record.lease),
            Rung.ASSESS: lambda: self._assess(loss),
            Rung.COLLECT: lambda: self._collect(loss),
            Rung.RELOCATE: lambda: self._relocate(loss),
            Rung.REPLAY: lambda: self._replay(loss),
        }
        # Older runs replaced every lost container: their histories know no assess.
        rung = first(loss.finding) if record.lease and workflow.patched("assess") else Rung.PLACE
        while rung not in {Rung.TELL, Rung.GO_ON}:
            rung = await climb(rung, steps, taken)
            if rung is Rung.PAUSE:
                if not record.stopping:
                    self._context.pause(f"recovery failed: {loss.reason}")
                if not await self._context.while_paused():
                    return loss.how is not Recovered.INTACT
                # Whatever it was may have been mended, or have changed: the climb begins anew.
                rung = first(loss.finding)
                continue
            if rung in {Rung.PLACE, Rung.ACQUIRE}:
                record.lease = None
                record.tick(workflow.now())
                loss.how = Recovered.REPLACED
                # A command may have ended, and its snapshot begun, since this climb did.
                await self._holder.settle()
                loss.requested = record.snapshot.number if record.snapshot else None
                loss.gone += [command for command in record.dirty if command not in loss.gone]
                record.dirty.clear()
                if not await self._holder.replace(loss.placement, taken):
                    # The next hold restores this very snapshot.
                    loss.how = Recovered.STOPPED
                    return True
                loss.placement = None
                rung = Rung.REPLAY
        return True

    async def _ping_held(self, lease: LeaseStatus | None) -> Finding:
        return Finding.SILENT if lease is None else await self.ping(lease)

    async def _assess(self, loss: Loss) -> Finding:
        record = self._record
        lease = record.lease
        if lease is None:
            return Finding.GONE
        try:
            result = await options.call(
                contracts.SANDBOX_ASSESS,
                contracts.AssessRequest(agent_uid=record.uid, lease=lease),
                summary=f"recover: what became of generation {lease.generation}?",
                task_queue=lease.task_queue,
            )
        except ActivityError as error:
            if finding_of(error) is Finding.LOST:
                return Finding.GONE
            if finding_of(error) is Finding.FAILED:
                loss.reason = f"{loss.reason}; {reason_of(error)}"
            return finding_of(error)
        if result.state == "running":
            record.lease = result.lease
            return Finding.RUNNING
        loss.reason = result.reason or loss.reason
        if result.state == "gone":
            return Finding.GONE
        record.lease = result.lease
        if loss.how is not Recovered.REPLACED:
            loss.how = Recovered.RESTARTED
        return Finding.RESTARTED

    async def _collect(self, loss: Loss) -> Finding:
        if loss.collect is None or loss.how is Recovered.REPLACED:
            return Finding.DONE
        try:
            found = await loss.collect()
        except ActivityError as error:
            return finding_of(error)
        if found is None:
            return Finding.LOST
        loss.finished, loss.uncertain = found
        return Finding.DONE

    async def _relocate(self, loss: Loss) -> Finding:
        lease = self._record.lease
        placement = await choose(self._context, "recover: ")
        if lease is not None and placement.host_id == lease.host_id:
            return Finding.SAME_HOST
        loss.reason = f"host {lease.host_id} does not answer" if lease else loss.reason
        loss.placement = placement
        return Finding.OTHER_HOST

    async def _replay(self, loss: Loss) -> Finding:
        """Run the lost commands that may run twice once more, in order."""
        record, spec = self._record, self._context.spec
        again = [command for command in (*loss.gone, *loss.finished, *loss.uncertain) if command.safe]
        lease = record.lease
        if spec.recovery != "replay" or not again or lease is None or loss.fatal:
            return Finding.DONE
        if not await self._holder.ruled():
            # Told as lost: under the rules of before nothing runs.
            return Finding.DONE
        timeout_ms = int(spec.command_timeout.total_seconds() * 1000)
        handle = options.start(
            contracts.SHELL_EXEC,
            contracts.ExecRequest(
                agent_uid=record.uid,
                lease=lease,
                exec_prefix=f"replay-g{record.generation}-s{record.step}",
                call_id="replay",
                commands=tuple(command.command for command in again),
                timeout_ms=timeout_ms,
                max_output_length=spec.max_output_length,
                max_output_bytes=spec.max_output_bytes,
            ),
            summary=f"recover: replay {len(again)} commands",
            task_queue=lease.task_queue,
            start_to_close=timedelta(milliseconds=timeout_ms * len(again)) + REPLAY_TIMEOUT,
        )
        await workflow.wait_condition(lambda: handle.done() or record.stopping)
        if not handle.done():
            handle.cancel()
        try:
            result = await handle
        except ActivityError as error:
            loss.fatal = finding_of(error) is Finding.LOST
            record.dirty.extend(again)
            loss.replayed = [ReplayedCommand(command=command.head, kind=OutcomeKind.UNKNOWN) for command in again]
            return finding_of(error)
        both = zip(again, result.outcomes, strict=False)
        ran = [(command, outcome) for command, outcome in both if outcome.kind is not OutcomeKind.NOT_RUN]
        record.dirty.extend(command for command, _ in ran)
        if result.lost is not None:
            loss.fatal = True
            return Finding.LOST
        loss.replayed = [
            ReplayedCommand(command=command.head, kind=outcome.kind, exit_code=outcome.exit_code)
            for command, outcome in ran
        ]
        return Finding.DONE

    def _tell(
        self, loss: Loss, lost: Sequence[DirtyCommand], taken: Sequence[str], requested: int | None = None
    ) -> None:
        snapshot = self._record.snapshot
        restarted = loss.how is Recovered.RESTARTED
        report_loss(
            self._context,
            loss.reason,
            [command.head for command in loss.uncertain],
            restored=snapshot.number if snapshot and not restarted else None,
            requested=requested if not restarted else None,
            lost=() if restarted else [command.head for command in lost],
            climbed=Climbed("restarted" if restarted else "restored", taken, loss.replayed),
        )
