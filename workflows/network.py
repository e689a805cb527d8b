"""An allowlist that is changed while the agent lives: kept, put in force where the sandbox is, told to the model."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta

from temporalio import workflow
from temporalio.exceptions import ActivityError

from hibernaut import contracts
from hibernaut.models import EventKind
from hibernaut.models.network_change import NetworkChange, NetworkReport, NetworkStatus, without
from workflows import options
from workflows.context import Context
from workflows.failures import finding_of, reason_of
from workflows.ladder import Finding
from workflows.loss import Loss, Recovered

AGAIN = timedelta(seconds=10)
LONGEST = timedelta(minutes=10)
"""Before rules are offered again to a host that did not take them: the first time, and in the long run."""
SHOWN = 10
"""Rules that the model is told of each kind."""
SHOWN_BYTES = 4_000
"""Characters of rules that an event has of each kind."""


class Rules:
    """The rules of one agent and the sandbox that is to have them; one attempt to give them at a time."""

    def __init__(self, context: Context) -> None:
        """Nothing is under way."""
        self._context = context
        self._record = context.record
        self._task: asyncio.Task[None] | None = None
        self._failed: Loss | None = None
        self._asked = False
        self._quiet = False

    @property
    def due(self) -> bool:
        """Whether the sandbox has other rules than it should."""
        return self._record.network.due(self._record.lease)

    def status(self) -> NetworkStatus:
        """What holds, and what the agent was started with."""
        return self._record.network.status(self._context.spec.sandbox.network, self._record.lease)

    def change(self, request: NetworkChange) -> None:
        """Let other rules hold, and begin to put them in force; ValueError when they cannot be."""
        context, state = self._context, self._record.network
        network = context.spec.sandbox.network
        rules = request.over(network.allow)
        if rules == network.allow:
            self.begin()
            return
        if not state.number:
            state.of_spec = state.told = network.allow
        state.number += 1
        sandbox = context.spec.sandbox.model_copy(update={"network": network.model_copy(update={"allow": rules})})
        context.spec = context.spec.model_copy(update={"sandbox": sandbox})
        allowed, denied = without(rules, network.allow), without(network.allow, rules)
        by = f" by {request.by}" if request.by else ""
        told = ", ".join([*(f"+{rule}" for rule in allowed), *(f"-{rule}" for rule in denied)])
        context.journal.add(
            EventKind.NETWORK_CHANGED,
            f"network rules changed{by}: {told}",
            allowed=_within(allowed),
            denied=_within(denied),
            rules=len(rules),
            by=request.by,
        )
        self.begin()

    def begin(self) -> None:
        """Begin to give the sandbox the rules that it should have; a task that waits to try again does so now."""
        self._asked, self._failed = True, None
        if self.due and not self._ends and (self._task is None or self._task.done()):
            self._task = asyncio.create_task(self._give())

    async def in_force(self, patience: timedelta) -> None:
        """Wait until the sandbox has them, or that has failed, or for so long."""
        try:
            await workflow.wait_condition(
                lambda: not self.due or self._failed is not None or self._ends,
                timeout=patience,
                timeout_summary="the network rules",
            )
        except TimeoutError:
            return

    async def enforce(self, recover: Callable[[Loss], Awaitable[Recovered]]) -> bool:
        """Have them in force before anything runs; False when the sandbox was lost over it, or the turn is to end.

        Args:
            recover: Finds out what became of a sandbox that cannot be given rules, and brings it back.
        """
        context = self._context
        while self.due:
            held, trouble = await self.hold_by_now(), self._failed
            if held or trouble is None:
                return held
            if trouble.finding is not Finding.FAILED:
                if await recover(trouble) is not Recovered.INTACT:
                    return False
                continue
            context.pause(f"the network rules are not in force: {trouble.reason}")
            if not await context.while_paused():
                return False
        return True

    async def hold_by_now(self) -> bool:
        """Wait until the sandbox has them, or that has failed; whether it has them."""
        self.begin()
        await workflow.wait_condition(
            lambda: not self.due or self._failed is not None or self._context.record.stopping or self._ends
        )
        return not self.due

    async def quiet(self) -> None:
        """End what is under way: the next run goes on with it."""
        self._quiet = True
        if self._task is not None:
            await self._task

    @property
    def _ends(self) -> bool:
        return self._quiet or self._record.closing

    async def _give(self) -> None:
        record, state, pause = self._record, self._record.network, AGAIN
        while (lease := record.lease) is not None and self.due and not self._ends:
            self._asked = False
            number, generation = state.number, lease.generation

            def moved(generation: int = generation) -> bool:
                held = record.lease
                return self._ends or held is None or held.generation != generation

            handle = options.start(
                contracts.NETWORK_APPLY,
                contracts.ApplyNetworkRequest(
                    agent_id=self._context.agent_id,
                    agent_uid=record.uid,
                    lease=lease,
                    network=self._context.spec.sandbox.network,
                    number=number,
                ),
                summary=f"network rules, change {number}",
                task_queue=lease.task_queue,
            )
            await workflow.wait_condition(lambda handle=handle, moved=moved: handle.done() or moved())
            if not handle.done():
                handle.cancel()
            try:
                await handle
            except ActivityError as error:
                if moved():
                    continue
                state.failure = reason_of(error)
                self._failed = Loss(state.failure, finding_of(error), generation)
                if self._failed.finding is Finding.LOST:
                    # Whoever needs the sandbox next finds out what became of it.
                    return
                await self._pause(pause, moved)
                pause = min(LONGEST, 2 * pause)
            else:
                self._failed = None
                if not moved():
                    state.given(generation, number)

    async def _pause(self, pause: timedelta, moved: Callable[[], bool]) -> None:
        try:
            await workflow.wait_condition(
                lambda: self._asked or moved(),
                timeout=pause,
                timeout_summary="before the network rules are given again",
            )
        except TimeoutError:
            return


def tell_rules(context: Context) -> None:
    """Tell the model, with its next request, which hosts it may reach now and which no more."""
    state, rules = context.record.network, context.spec.sandbox.network.allow
    if not state.number or state.told == rules:
        return
    parts = [
        f"{what}: {_shown(changed)}"
        for what, changed in (
            ("it may now reach", without(rules, state.told)),
            ("it may no longer reach", without(state.told, rules)),
        )
        if changed
    ]
    state.told = rules
    if parts:
        text = f"[hibernaut] The network rules of your computer were changed; {'; '.join(parts)}."
        context.record.pending.append(contracts.Note(text=text))


def tell_connections(context: Context, call_id: str, report: NetworkReport | None) -> None:
    """Make events of what the commands of a call met on their way out."""
    if report is None:
        return
    context.record.network.mark = report.mark
    for decision in report.decisions:
        context.journal.add(EventKind.NETWORK, decision.line, call_id=call_id, **decision.model_dump(mode="json"))
    if report.more:
        context.journal.add(EventKind.NETWORK, f"and {report.more} connections more", call_id=call_id, more=report.more)


def _shown(rules: Sequence[str]) -> str:
    more = f" and {len(rules) - SHOWN} more" if len(rules) > SHOWN else ""
    return ", ".join(rules[:SHOWN]) + more


def _within(rules: Sequence[str]) -> list[str]:
    kept: list[str] = []
    for rule in rules:
        if sum(map(len, kept)) + len(rule) > SHOWN_BYTES:
            break
        kept.append(rule)
    return kept
