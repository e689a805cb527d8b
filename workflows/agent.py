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
from workflows.context import Context
from workflows.failures import reason_of
from workflows.inbox import Inbox
from workflows.lease import Lease
from workflows.record import AgentRecord
from workflows.turn import Turn
from workflows.uploads import Uploads
from workflows.validation import check


@workflow.defn(name=contracts.AGENT_WORKFLOW)
class AgentWorkflow:
    """One agent; its workflow id is the agent's id."""

    @workflow.init
    def __init__(self, spec: JsonValue, carried: AgentRecord | None = None) -> None:
        """Set up before any handler runs. An invalid spec fails the workflow in `run`, never a workflow task."""
        valid, self._invalid = check(spec)
        record = carried or AgentRecord(uid=workflow.uuid4().hex, born_at=workflow.now())
        self._record = record
        self._context = Context(workflow.info().workflow_id, valid, record)
        self._inbox = Inbox(self._context)
        self._lease = Lease(self._context)
        self._uploads = Uploads(self._context, self._lease)
        self._turn = Turn(self._context, self._lease)
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
        del spec, carried
        if self._invalid is not None:
            raise ApplicationError(self._invalid, type="InvalidSpec", non_retryable=True)
        while not self._record.closed:
            try:
                await self._next()
            except asyncio.CancelledError:
                # A cancelled agent is closed like any other: with a last snapshot, and without its container.
                self._record.closing = True
        await workflow.wait_condition(workflow.all_handlers_finished)
        return self._context.status()

    async def _next(self) -> None:
        """Do the one thing that comes next, most urgent first."""
        record, context = self._record, self._context
        if self._context.journal.due:
            await context.journal.flush()
        elif workflow.info().is_continue_as_new_suggested() and not record.closing:
            await self._continue()
        elif record.current is not None and (not record.paused or record.stopping):
            await self._turn.run()
        elif record.closing:
            await self._close()
        elif record.inbox and not record.paused:
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
        held, uses = self._lease.held, self._lease.uses
        record.want_hibernate = record.want_hibernate and held
        context.show(_resting_state(record, held=held))
        if not held and workflow.info().get_current_history_length() > _SLEEPING_EVENTS:
            await self._continue()
        try:
            await workflow.wait_condition(
                lambda: self._woken() or self._lease.held is not held or self._lease.uses != uses,
                timeout=context.spec.idle_timeout if held else None,
                timeout_summary="hibernate when idle this long",
            )
        except TimeoutError:
            if self._lease.idle:
                await self._hibernate(f"idle for {context.spec.idle_timeout.total_seconds():g} s")

    def _woken(self) -> bool:
        record = self._record
        ready = record.inbox or record.current is not None or record.want_wake
        return bool(
            record.closing
            or (ready and not record.paused)
            or (record.interrupt and record.current is not None)
            or (record.want_hibernate and self._lease.held)
            or self._context.journal.due
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
        if not await self._lease.release():
            context.pause(f"{contracts.SNAPSHOT_FAILED} before hibernation; the container is kept")
            return
        record.tell_woke = record.snapshot is not None
        context.journal.add(EventKind.HIBERNATED, f"hibernated: {why}")
        if not record.paused:
            context.show(AgentState.HIBERNATED)
        if record.lease is None and self._lease.idle:
            await self._continue()

    async def _continue(self) -> None:
        """End this run and go on in a fresh one, carrying everything."""
        await workflow.wait_condition(workflow.all_handlers_finished)
        await self._lease.quiet()
        await self._context.journal.flush()
        # A handler may have begun while the events were written: what it accepted is carried as well.
        await workflow.wait_condition(workflow.all_handlers_finished)
        workflow.continue_as_new(args=[self._context.spec, self._record])

    async def _close(self) -> None:
        record, context = self._record, self._context
        context.show(context.state, "closing")
        for message in record.inbox:
            record.answer(
                Answer(message_id=message.message_id, state=AnswerState.FAILED, text="The agent was closed first.")
            )
        record.inbox.clear()
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

    def _refusal(self) -> ApplicationError | None:
        """Why this agent takes nothing any more."""
        if self._invalid is not None:
            return ApplicationError(self._invalid, type="InvalidSpec", non_retryable=True)
        if self._record.closing or self._record.closed:
            return ApplicationError(
                f"agent {self._context.agent_id} is closed; start another one", type="AgentClosed", non_retryable=True
            )
        return None

    # -- orders -----------------------------------------------------------------------------------------------------

    @workflow.update
    async def hibernate(self) -> AgentStatus:
        """Give the container up as soon as no turn runs."""
        self._record.want_hibernate = self._lease.held or self._record.current is not None
        self._record.want_wake = False
        return self._context.status()

    @workflow.update
    async def wake(self) -> AgentStatus:
        """Take a container and restore it without waiting for a message."""
        self._record.want_wake = True
        self._record.want_hibernate = False
        return self._context.status()

    @workflow.update
    async def interrupt(self) -> AgentStatus:
        """End the turn under way: the model call is dropped, the command killed with its process group."""
        if self._record.current is not None:
            self._record.interrupt = True
        return self._context.status()

    @workflow.update
    async def pause(self, reason: str = "") -> AgentStatus:
        """Stop before the next step."""
        if not self._record.paused:
            self._context.pause(reason or None)
        return self._context.status()

    @workflow.update
    async def resume(self) -> AgentStatus:
        """Go on where a pause stopped."""
        record, context = self._record, self._context
        if record.paused:
            record.paused = False
            record.paused_reason = None
            context.journal.add(EventKind.RESUMED, "resumed")
            held = record.lease is not None
            context.show(AgentState.RUNNING if record.current else _resting_state(record, held=held))
        return context.status()

    @workflow.update
    async def close(self) -> AgentStatus:
        """End the agent: the turn under way is interrupted, a last snapshot taken, the container destroyed."""
        self._record.closing = True
        return self._context.status()

    @workflow.update
    async def put_file(self, request: contracts.PutFile) -> contracts.PutFileResult:
        """Write an uploaded object into the agent's computer, waking it if need be."""
        return await self._uploads.put(request)

    @put_file.validator
    def _check_put_file(self, request: contracts.PutFile) -> None:
        problem = self._refusal()
        if problem is not None:
            raise problem
        if not request.path.startswith("/") or "\0" in request.path:
            raise ApplicationError(
                f"the path must be absolute, not {request.path!r}", type="InvalidRequest", non_retryable=True
            )

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


_SLEEPING_EVENTS = 60
"""A sleeping run longer than this is continued as new, so that it stays a handful of events."""


def _resting_state(record: AgentRecord, *, held: bool) -> AgentState:
    if record.paused:
        return AgentState.PAUSED
    return AgentState.HIBERNATED if not held and record.generation > 0 else AgentState.IDLE
