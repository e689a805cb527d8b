"""ChildAgentWorkflow: sees to an agent that another one started, from its task to its end."""

import asyncio
from datetime import timedelta

from temporalio import workflow
from temporalio.common import SearchAttributePair, TypedSearchAttributes, WorkflowIDReusePolicy
from temporalio.exceptions import ActivityError, ApplicationError, ChildWorkflowError, WorkflowAlreadyStartedError
from temporalio.workflow import ParentClosePolicy

from hibernaut import contracts as c
from hibernaut.contracts import children, names, stubs
from hibernaut.models import AgentState, AnswerState, ChildState, Event, EventKind, SendRequest
from workflows import options
from workflows.children import memo, told
from workflows.context import MODEL, STATE
from workflows.failures import code_of, reason_of
from workflows.record import AgentRecord

SHORTEST = timedelta(seconds=1)
CLOSING = timedelta(minutes=20)
"""What the closing of a child gets, its last snapshot included, and then what it has to tell, before its parent
is told without."""
_LATE = frozenset({names.NOT_YET, "TimeoutError"})
"""How an activity ends whose time was up: it is tried without limit otherwise."""
_ENDS = {
    AnswerState.DONE: ChildState.DONE,
    AnswerState.REFUSED: ChildState.REFUSED,
    AnswerState.INTERRUPTED: ChildState.INTERRUPTED,
    AnswerState.FAILED: ChildState.FAILED,
}


class NotBegunError(Exception):
    """The child could not be made."""


@workflow.defn(name=children.CHILD_WORKFLOW)
class ChildAgentWorkflow:
    """Starts the child, gives it its task, closes it when that has ended, and tells its parent."""

    def __init__(self) -> None:
        """Nothing has been said yet."""
        self._stopping = False

    @workflow.signal(name=children.STOP_CHILD)
    def stop(self) -> None:
        """End the child's turn, and the child."""
        self._stopping = True

    @workflow.run
    async def run(self, request: children.ChildRequest) -> children.ChildReport:
        """See to a child; a cancelled one is stopped."""
        work = asyncio.create_task(self._work(request))
        try:
            await workflow.wait_condition(work.done)
        except asyncio.CancelledError:
            self._stopping = True
            await workflow.wait_condition(work.done)
        return await work

    async def _work(self, request: children.ChildRequest) -> children.ChildReport:
        workflow.set_current_details(f"agent `{request.child_id}`, started by `{request.parent.agent_id}`")
        if request.ending:
            report = await self._closed(request, None)
            await self._tell(request, report)
            return report
        try:
            await self._begin(request)
        except NotBegunError as error:
            report = _report(request, ChildState.FAILED, text=f"it could not be started: {error}")
        else:
            end = await self._turn(request)
            report = await self._closed(request, end)
        await self._tell(request, report)
        return report

    async def _begin(self, request: children.ChildRequest) -> None:
        """Make the child and give it its task."""
        if self._stopping:
            raise NotBegunError("its parent was stopped first")
        try:
            if request.source is None:
                await _start(request)
            else:
                await workflow.execute_child_workflow(
                    c.FORK_WORKFLOW,
                    c.ForkRequest(
                        source=request.source.model_copy(update={"spec": request.spec}),
                        new_id=request.child_id,
                        parent=request.parent,
                    ),
                    id=f"fork:{request.child_id}",
                    task_queue=c.TASK_QUEUE,
                    parent_close_policy=ParentClosePolicy.ABANDON,
                    result_type=c.ForkResult,
                )
            # To a run that cannot be closed yet: nobody else knows of it.
            task = SendRequest(text=request.task, message_id=children.child_message_id(request.child_id))
            await workflow.get_external_workflow_handle(request.child_id).signal("send", task)
        except WorkflowAlreadyStartedError as error:
            raise NotBegunError(f"there is an agent {request.child_id!r} already") from error
        except (ChildWorkflowError, ApplicationError) as error:
            raise NotBegunError(_why(error)) from error

    async def _turn(self, request: children.ChildRequest) -> ChildState | None:
        """Wait for the end of the task; what ended it, unless the child itself did."""
        handle = options.start(
            stubs.CHILD_WAIT,
            children.ChildWaitRequest(
                agent_id=request.child_id, message_id=children.child_message_id(request.child_id)
            ),
            summary=f"the answer of {request.child_id}",
            schedule_to_close=max(SHORTEST, request.until - workflow.now()),
        )
        await workflow.wait_condition(lambda: handle.done() or self._stopping)
        if not handle.done():
            handle.cancel()
        try:
            await handle
        except ActivityError as error:
            if workflow.now() >= request.until or code_of(error) in _LATE:
                return ChildState.TIMED_OUT
            # Closed by somebody, or terminated: it may tell itself.
            return ChildState.INTERRUPTED
        return None

    async def _closed(self, request: children.ChildRequest, end: ChildState | None) -> children.ChildReport:
        """Close the child, so that no container stays; then what it answered and spent is final."""
        try:
            await options.call(
                stubs.CHILD_CLOSE,
                children.ChildCloseRequest(
                    agent_id=request.child_id, parent_id=request.parent.agent_id if request.ending else ""
                ),
                summary=f"close {request.child_id}",
                schedule_to_close=CLOSING,
            )
        except ActivityError as error:
            workflow.logger.warning("agent %s is not closed yet: %s", request.child_id, reason_of(error))
        try:
            found = await options.call(
                stubs.CHILD_FIND,
                children.ChildFindRequest(
                    agent_id=request.child_id, message_id=children.child_message_id(request.child_id)
                ),
                summary=f"what {request.child_id} said and spent",
                schedule_to_close=CLOSING,
            )
        except ActivityError as error:
            return _report(request, end or ChildState.UNKNOWN, text=f"it does not tell: {reason_of(error)}")
        said = _ENDS.get(found.state, ChildState.UNKNOWN)
        state = said if end is None or said in {ChildState.DONE, ChildState.REFUSED} else end
        return _report(request, state, text=found.text).model_copy(
            update={"truncated": found.truncated, "steps": found.steps, "spent": found.spent}
        )

    async def _tell(self, request: children.ChildRequest, report: children.ChildReport) -> None:
        parent = workflow.get_external_workflow_handle(request.parent.agent_id)
        try:
            await parent.signal(children.CHILD_ENDED, report)
        except ApplicationError:
            workflow.logger.info("agent %s is gone; nobody hears of %s", request.parent.agent_id, request.child_id)


async def _start(request: children.ChildRequest) -> None:
    """Start an agent that knows nothing but whose child it is."""
    uid, now, spec = workflow.uuid4().hex, workflow.now(), request.spec
    record = AgentRecord(
        uid=uid,
        born_at=now,
        parent=request.parent,
        pending=[c.Note(text=told(request.parent))],
        events=[
            Event(seq=1, at=now, kind=EventKind.STARTED, summary=f"agent {request.child_id}", data={"agent_uid": uid})
        ],
        last_event=1,
    )
    await workflow.start_child_workflow(
        c.AGENT_WORKFLOW,
        args=[spec, record],
        id=request.child_id,
        task_queue=c.TASK_QUEUE,
        parent_close_policy=ParentClosePolicy.ABANDON,
        id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE,
        memo=memo(request.parent),
        search_attributes=TypedSearchAttributes(
            [SearchAttributePair(STATE, AgentState.IDLE.value), SearchAttributePair(MODEL, str(spec.get("model", "")))]
        ),
        static_summary=f"agent {request.child_id}",
    )


def _report(request: children.ChildRequest, state: ChildState, *, text: str) -> children.ChildReport:
    return children.ChildReport(
        parent_uid=request.parent.agent_uid,
        agent_id=request.child_id,
        state=state,
        text=text[: children.REPORT_TEXT],
    )


def _why(error: BaseException) -> str:
    cause = error.cause if isinstance(error, ChildWorkflowError) and error.cause is not None else error
    return cause.message if isinstance(cause, ApplicationError) else str(cause)
