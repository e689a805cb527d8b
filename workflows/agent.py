"""AgentWorkflow: one durable agent. Handlers take orders, the main loop carries them out."""

import asyncio

from pydantic import JsonValue
from temporalio import workflow
from temporalio.exceptions import ActivityError, ApplicationError

from hibernaut import contracts
from hibernaut.models import (
    AgentState,
    AgentStatus,
    Answer,
    AnswerState,
    EventKind,
    EventsPage,
    SendRequest,
    Ticket,
)
from workflows import bounds
from workflows.branching import Branching
from workflows.budgeting import Budgeting
from workflows.children import Children
from workflows.context import Context
from workflows.failures import reason_of
from workflows.family import Family
from workflows.inbox import Inbox
from workflows.lease import Lease
from workflows.networking import Networking
from workflows.orders import Orders
from workflows.parts import resting_state
from workflows.people import People
from workflows.record import AgentRecord
from workflows.turn import Turn
from workflows.uploads import Uploads
from workflows.validation import check, refused_id
from workflows.waits import patience


@workflow.defn(name=contracts.AGENT_WORKFLOW)
class AgentWorkflow(Orders, People, Budgeting, Networking, Branching, Family, bounds.Run):
    """One agent; its workflow id is the agent's id."""

    @workflow.init
    def __init__(self, spec: JsonValue, carried: AgentRecord | None = None) -> None:
        """Set up before any handler runs. An invalid spec fails the workflow in `run`, never a workflow task."""
        valid, self._invalid = check(spec)
        if carried is None and self._invalid is None:
            self._invalid = refused_id(workflow.info().workflow_id)
        record = carried or AgentRecord(uid=workflow.uuid4().hex, born_at=workflow.now())
        self._record = record
        self._context = Context(workflow.info().workflow_id, valid, record)
        self._inbox = Inbox(self._context)
        self._lease = Lease(self._context)
        self._uploads = Uploads(self._context, self._lease)
        self._turn = Turn(self._context, self._lease)
        self._children = Children(self._context)
        if carried is None:
            self._context.journal.add(EventKind.STARTED, f"agent {self._context.agent_id}", agent_uid=record.uid)

    @workflow.run
    async def run(self, spec: JsonValue, carried: AgentRecord | None = None) -> AgentStatus:
        """Live until closed.

        Args:
            spec: An AgentSpec as JSON.
            carried: The state of the run before; absent in an agent's first run.

        Raises:
            ApplicationError: Type `InvalidSpec`; the message names each field and what it allows.
        """
        del spec
        if self._invalid is not None and carried is not None:
            # Of a later release: a build that knows it is waited for, and nothing is lost meanwhile.
            raise RuntimeError(f"This build cannot read the spec of agent {self._context.agent_id}. {self._invalid}")
        if self._invalid is not None:
            raise ApplicationError(self._invalid, type="InvalidSpec", non_retryable=True)
        self._lease.rules.begin()
        while not self._record.closed:
            try:
                await self._next()
            except asyncio.CancelledError:
                # A cancelled agent is closed like any other: with a last snapshot, and without its container.
                self._record.closing = True
        if self.worked and bounds.versioned():
            # A closed agent answers questions for years, whatever build is there.
            await self._continue(free=True)
        await workflow.wait_condition(workflow.all_handlers_finished)
        return self._context.status()

    async def _next(self) -> None:
        """Do the one thing that comes next, most urgent first."""
        record, context = self._record, self._context
        if self._context.journal.due:
            await context.journal.flush()
        elif self._children.due:
            await self._children.order()
        elif bounds.due() and not record.closing and not record.going_back:
            await self._continue(free=record.current is None)
        elif record.current is not None and (not record.paused or record.stopping) and not self._turn.waits:
            await self._turn.run()
        elif record.closing:
            await self._close()
        elif record.rewind is not None and record.current is None:
            await self._go_back(record.rewind)
        elif record.inbox and record.current is None and not record.paused:
            self._turn.open()
        elif record.want_wake and not record.paused:
            await self._wake()
        elif record.want_hibernate and self._lease.held:
            await self._hibernate("asked to")
        else:
            await self._rest()

    async def _rest(self) -> None:
        """Wait for something to do; with a container at hand, for as long as the idle timeout."""
        record, context = self._record, self._context
        held, uses, paused = self._lease.held, self._lease.uses, record.paused
        record.want_hibernate = record.want_hibernate and held
        context.show(resting_state(record, held=held))
        if not held and bounds.too_long_to_sleep(self):
            await self._continue(free=True)
        idle = context.spec.idle_timeout if held else None
        due = None if record.paused else patience(context)
        first = idle if due is None or (idle is not None and idle <= due) else due
        try:
            await workflow.wait_condition(
                lambda: (
                    self._woken()
                    or bounds.due()
                    or self._lease.held is not held
                    or self._lease.uses != uses
                    # What is waited for has no timer while the agent is paused.
                    or (record.waiting is not None and record.paused is not paused)
                    # A handler did something and changed nothing: no build is kept for a sleeper's sake.
                    or (not self._lease.held and self.worked and bounds.versioned())
                ),
                timeout=first,
                timeout_summary="hibernate when idle this long" if first == idle else "what the agent waits for",
            )
        except TimeoutError:
            if first == idle and self._lease.idle:
                await self._hibernate(f"idle for {context.spec.idle_timeout.total_seconds():g} s")

    def _woken(self) -> bool:
        record = self._record
        ready = record.want_wake or (record.inbox if record.current is None else not self._turn.waits)
        return bool(
            record.closing
            or (record.rewind is not None and record.current is None)
            or (ready and not record.paused)
            or (record.interrupt and record.current is not None)
            or (record.want_hibernate and self._lease.held)
            or self._context.journal.due
            or self._children.due
        )

    async def _wake(self) -> None:
        self._record.want_wake = False
        if self._record.lease is not None:
            # Looks at the container as a side effect; a lost one is replaced.
            self._lease.begin_snapshot("on wake")
            await self._lease.ready()
            return
        self._context.show(AgentState.RUNNING, "waking")
        if await self._lease.hold():
            self._context.journal.add(EventKind.WOKE, f"awake, generation {self._record.generation}")

    async def _hibernate(self, why: str) -> None:
        record, context = self._record, self._context
        record.want_hibernate = False
        context.show(context.state, "hibernating")
        if not await self._lease.arrived():
            return
        if not await self._lease.release():
            why = f": {self._lease.failure}" if self._lease.failure else ""
            context.pause(f"{contracts.SNAPSHOT_FAILED} before hibernation; the container is kept{why}")
            return
        record.tell_woke = record.snapshot is not None
        context.journal.add(EventKind.HIBERNATED, f"hibernated: {why}")
        if not record.paused:
            context.show(resting_state(record, held=False))
        if record.lease is None and self._lease.idle:
            await self._continue(free=record.current is None or self._turn.waits)

    async def _continue(self, *, free: bool) -> None:
        """End this run and go on in a fresh one, carrying everything; when `free`, on the current build."""
        if not self._record.closed and not await self._lease.arrived():
            return
        await workflow.wait_condition(workflow.all_handlers_finished)
        await self._lease.quiet()
        # Not what is added while that is written: an agent that many talk to would never get to its end.
        await self._context.journal.flush(until=self._record.last_event)
        # A handler may have begun while the events were written: what it accepted is carried as well.
        await workflow.wait_condition(workflow.all_handlers_finished)
        # What is at its default is left out: a build that does not know the field can go on with the agent.
        spec = self._context.spec.model_dump(mode="json", exclude_defaults=True)
        workflow.continue_as_new(args=[spec, self._record], initial_versioning_behavior=bounds.next_build(free=free))

    async def _close(self) -> None:
        record, context = self._record, self._context
        context.show(context.state, "closing")
        for message in record.inbox:
            record.answer(
                Answer(message_id=message.message_id, state=AnswerState.FAILED, text="The agent was closed first.")
            )
        record.inbox.clear()
        self._children.stop_all()
        await self._children.order()
        left = await self._lease.end()
        context.journal.add(EventKind.CLOSED, f"closed; {left}" if left else "closed")
        await context.journal.flush()
        context.show(AgentState.CLOSED)
        record.closed = True

    # -- messages ---------------------------------------------------------------------------------------------------

    @workflow.update(name="send")
    async def send(self, request: SendRequest) -> Ticket:
        """Accept a message; the ticket is the proof that it is durable."""
        return await self._inbox.accept(request)

    @send.validator
    def _check_send(self, request: SendRequest) -> None:
        problem = self._refusal() or self._inbox.refusal(request)
        if problem is not None:
            raise problem

    @workflow.signal(name="send")
    async def send_signal(self, request: SendRequest) -> None:
        """Accept a message without a ticket; one that must be refused is an event."""
        problem = self._refusal() or self._inbox.refusal(request)
        if problem is not None:
            self._context.journal.add(EventKind.MESSAGE_REJECTED, f"message rejected: {problem.message}")
            return
        try:
            await self._inbox.accept(request)
        except ActivityError as error:
            self._context.journal.add(EventKind.MESSAGE_REJECTED, f"message rejected: {reason_of(error)}")

    # -- questions --------------------------------------------------------------------------------------------------

    @workflow.query
    def status(self) -> AgentStatus:
        """Everything one looks at first."""
        return self._context.status()

    @workflow.query
    def events(self, since: int = 0) -> EventsPage:
        """The events after `since` that are still held; older ones are in the store."""
        return self._context.journal.page(since)

    @workflow.query
    def answer(self, message_id: str) -> Answer:
        """What became of a message."""
        return self._inbox.answer(message_id)
