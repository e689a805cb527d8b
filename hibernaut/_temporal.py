"""Talking to an agent's workflow: requests that survive continue-as-new, errors that are ours."""

import asyncio
import time
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any, NoReturn, TypeVar

from pydantic import BaseModel
from temporalio.api.enums.v1 import TaskQueueType
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import DescribeTaskQueueRequest
from temporalio.client import (
    Client,
    RPCTimeoutOrCancelledError,
    WorkflowExecutionDescription,
    WorkflowExecutionStatus,
    WorkflowFailureError,
    WorkflowQueryFailedError,
    WorkflowUpdateFailedError,
)
from temporalio.exceptions import ApplicationError, FailureError
from temporalio.service import RPCError, RPCStatusCode

from hibernaut._connect import translate
from hibernaut._waiting import ensure_not_cancelled
from hibernaut.contracts import TASK_QUEUE
from hibernaut.errors import (
    AgentClosed,
    AgentNotFound,
    HibernautError,
    InboxFull,
    InvalidSpec,
    MessageTooLarge,
    NoWorker,
    RequestRejected,
)

ResultT = TypeVar("ResultT", bound=BaseModel)

ATTEMPT = timedelta(seconds=8)
"""Longest a single RPC waits."""
FIRST_ATTEMPT = timedelta(seconds=2)
"""After that long without an answer it is asked whether any worker is there at all."""
PATIENCE_SECONDS = 40.0
"""How long a request is tried anew while a worker seems to be there."""
POLLER_SECONDS = 75.0
"""A poll lasts up to a minute: a poller not seen for longer than that is gone."""
TRANSIENT = frozenset(
    {
        RPCStatusCode.ABORTED,
        RPCStatusCode.FAILED_PRECONDITION,
        RPCStatusCode.INTERNAL,
        RPCStatusCode.RESOURCE_EXHAUSTED,
        RPCStatusCode.UNKNOWN,
    }
)
OPEN = frozenset({WorkflowExecutionStatus.RUNNING, WorkflowExecutionStatus.CONTINUED_AS_NEW})
"""The newest run is a continued one for the moment in which the next is not there yet."""
NO_WORKER_HINT = "Start one with `make up`, or `python -m workers` beside an existing Temporal server."


class Workflows:
    """Requests to workflows by workflow id, whatever run is the current one."""

    def __init__(self, client: Client) -> None:
        """The client must use the pydantic data converter."""
        self.client = client

    async def query(self, agent_id: str, name: str, args: list[Any], result: type[ResultT]) -> ResultT:
        """Ask a workflow; a closed one answers too, as long as a worker is there."""
        handle = self.client.get_workflow_handle(agent_id)
        patience = _Patience(self, agent_id)
        while True:
            try:
                return await handle.query(name, args=args, result_type=result, rpc_timeout=patience.attempt)
            except WorkflowQueryFailedError as error:
                # Temporal hands on no more of it than that: the words are sealed.
                said = "why is sealed" if error.message == "Encoded failure" else error.message.rstrip(".")
                msg = f"Agent {agent_id} cannot answer the query {name}: {said}."
                raise RequestRejected(msg, reason_code="QueryFailed", agent_id=agent_id) from error
            except RPCError as error:
                await patience.after(error)

    async def update(
        self, agent_id: str, name: str, args: list[Any], result: type[ResultT], *, seconds: float = PATIENCE_SECONDS
    ) -> ResultT:
        """Ask a workflow for something, and again on its next run when it was just continuing as new.

        Only for requests that change nothing the second time. Tried for so many seconds while a worker is there.
        """
        handle = self.client.get_workflow_handle(agent_id)
        patience = _Patience(self, agent_id, seconds)
        # Asked before: a server keeps what no worker took yet, and would have it done after we said that it failed.
        await self._worker_soon(agent_id)
        update_id = uuid.uuid4().hex
        while True:
            try:
                return await handle.execute_update(  # pyright: ignore[reportUnknownMemberType]  # an overload of Temporal's
                    name, args=args, id=update_id, result_type=result, rpc_timeout=patience.attempt
                )
            except WorkflowUpdateFailedError as error:
                cause = error.cause
                if not (isinstance(cause, ApplicationError) and cause.type == "AcceptedUpdateCompletedWorkflow"):
                    raise rejection(cause, agent_id) from error
                # Accepted by a run that ended before it answered: the next run has a memory of its own for ids.
                update_id = uuid.uuid4().hex
                await self.raise_if_closed(agent_id)
                await patience.pause()
            except (RPCError, RPCTimeoutOrCancelledError) as error:
                await patience.after(error)

    async def signal(self, agent_id: str, name: str, arg: BaseModel) -> None:
        """Tell a workflow something; needs no worker."""
        try:
            await self.client.get_workflow_handle(agent_id).signal(name, arg, rpc_timeout=ATTEMPT)
        except RPCError as error:
            await self.fail(agent_id, error)

    async def describe(self, agent_id: str) -> WorkflowExecutionDescription:
        """What the server itself knows; needs no worker."""
        try:
            return await self.client.get_workflow_handle(agent_id).describe(rpc_timeout=ATTEMPT)
        except RPCError as error:
            if _no_workflow(error):
                raise not_found(agent_id) from error
            raise translate(error, self.client.namespace) from error

    async def is_open(self, agent_id: str) -> bool:
        """Whether the agent's last run goes on. Needs no worker."""
        status = (await self.describe(agent_id)).status
        return status is None or status in OPEN

    async def raise_if_closed(self, agent_id: str) -> None:
        """Raise AgentClosed or InvalidSpec when the agent's last run ended without a next one."""
        status = (await self.describe(agent_id)).status
        if status is None or status in OPEN:
            return
        how, hint = status.name.lower(), "Its files can still be read; delete it to use the id again."
        if status is WorkflowExecutionStatus.FAILED:
            cause = await self._failure(agent_id)
            if isinstance(cause, ApplicationError) and cause.type == "InvalidSpec":
                msg = f"Agent {agent_id} was started with an invalid spec and never ran: {cause.message}"
                raise InvalidSpec(msg, problems=tuple(cause.message.splitlines()), hint="Delete it and start it anew.")
            how = f"failed: {cause}"
        elif status is WorkflowExecutionStatus.COMPLETED:
            how = "closed"
        msg = f"Agent {agent_id} takes no requests any more: {how}."
        raise AgentClosed(msg, agent_id=agent_id, hint=hint)

    async def never_ran(self, agent_id: str) -> bool:
        """Whether the agent ended before it did anything, for its spec was invalid: nothing is kept of it anywhere."""
        try:
            await self.raise_if_closed(agent_id)
        except InvalidSpec:
            return True
        except AgentClosed:
            return False
        return False

    async def require_worker(self) -> None:
        """Raise NoWorker when nobody polls the task queue."""
        request = DescribeTaskQueueRequest(
            namespace=self.client.namespace,
            task_queue=TaskQueue(name=TASK_QUEUE),
            task_queue_type=TaskQueueType.TASK_QUEUE_TYPE_WORKFLOW,
        )
        try:
            response = await self.client.workflow_service.describe_task_queue(request, timeout=ATTEMPT)
        except RPCError as error:
            raise translate(error, self.client.namespace) from error
        now = datetime.now(UTC)
        for poller in response.pollers:
            seen = poller.last_access_time.ToDatetime(tzinfo=UTC)
            if (now - seen).total_seconds() < POLLER_SECONDS:
                return
        msg = f"No worker polls the task queue {TASK_QUEUE!r} of namespace {self.client.namespace!r}."
        raise NoWorker(msg, hint=NO_WORKER_HINT)

    async def _worker_soon(self, agent_id: str) -> None:
        """Raise NoWorker unless one polls; a server that just restarted has not seen them all yet."""
        ends = time.monotonic() + FIRST_ATTEMPT.total_seconds()
        while True:
            try:
                return await self.require_worker()
            except NoWorker:
                # An id that nobody has is the better thing to say.
                await self.raise_if_closed(agent_id)
                if time.monotonic() > ends:
                    raise
                await asyncio.sleep(0.2)

    async def fail(self, agent_id: str, error: RPCError) -> NoReturn:
        """Raise what an RPC error means for this agent."""
        if _no_workflow(error):
            # "Already completed" and "not found" share a status; the description tells them apart.
            await self.raise_if_closed(agent_id)
        raise translate(error, self.client.namespace) from error

    async def _failure(self, agent_id: str) -> BaseException | None:
        try:
            await self.client.get_workflow_handle(agent_id).result(rpc_timeout=ATTEMPT)
        except WorkflowFailureError as error:
            return error.cause
        except RPCError:
            return None
        return None


class _Patience:
    """Decides after a failed attempt whether to try again, and waits."""

    def __init__(self, workflows: Workflows, agent_id: str, seconds: float = PATIENCE_SECONDS) -> None:
        self._workflows = workflows
        self._agent_id = agent_id
        self._seconds = seconds
        self._ends = time.monotonic() + seconds
        self._delay = 0.05
        self.attempt = FIRST_ATTEMPT

    async def pause(self) -> None:
        if time.monotonic() > self._ends:
            msg = f"Agent {self._agent_id} did not answer within {self._seconds:.0f} s, although a worker polls."
            raise NoWorker(msg, hint="Look at the worker's log; it may be overloaded or failing.")
        self.attempt = ATTEMPT
        await asyncio.sleep(self._delay)
        self._delay = min(1.0, self._delay * 2)

    async def after(self, error: RPCError | RPCTimeoutOrCancelledError) -> None:
        ensure_not_cancelled()
        if isinstance(error, RPCTimeoutOrCancelledError) or error.status in {
            RPCStatusCode.DEADLINE_EXCEEDED,
            RPCStatusCode.CANCELLED,
        }:
            await self._workflows.require_worker()
        elif _no_workflow(error):
            # A run that just ended: the next one takes the request. No next one: raises.
            await self._workflows.raise_if_closed(self._agent_id)
        elif error.status in TRANSIENT:
            if "no poller" in error.message:
                await self._workflows.require_worker()
        else:
            raise translate(error, self._workflows.client.namespace) from error
        await self.pause()


def _no_workflow(error: RPCError) -> bool:
    return error.status == RPCStatusCode.NOT_FOUND and "amespace" not in error.message


def not_found(agent_id: str) -> AgentNotFound:
    """The error for an id that no agent has."""
    msg = f"There is no agent {agent_id!r}."
    return AgentNotFound(msg, agent_id=agent_id, hint="`hibernaut ls` lists them; `hibernaut start` makes one.")


def rejection(cause: BaseException, agent_id: str) -> HibernautError:
    """The error of ours for an update that the agent rejected."""
    while not isinstance(cause, ApplicationError) and cause.__cause__ is not None:
        # An activity that failed wraps what it raised.
        cause = cause.__cause__
    if not isinstance(cause, ApplicationError):
        text = cause.message if isinstance(cause, FailureError) else str(cause)
        return RequestRejected(f"Agent {agent_id} failed at it: {text}.", agent_id=agent_id)
    text = cause.message
    match cause.type:
        case "MessageTooLarge":
            return MessageTooLarge(text)
        case "InvalidSpec":
            return InvalidSpec(text, problems=tuple(text.splitlines()))
        case "AgentClosed":
            return AgentClosed(text, agent_id=agent_id)
        case "InboxFull":
            return InboxFull(text, agent_id=agent_id, hint="Send again when it has answered some.")
        case code:
            return RequestRejected(text, reason_code=code or "", agent_id=agent_id)
