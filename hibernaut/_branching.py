"""Checkpoints of an agent: listed, forked into another agent, rewound to."""

import asyncio
from collections.abc import AsyncGenerator
from functools import partial
from typing import TYPE_CHECKING, Self
from uuid import uuid4

from temporalio.client import RPCTimeoutOrCancelledError, WorkflowFailureError, WorkflowHandle
from temporalio.common import WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from temporalio.exceptions import ApplicationError, FailureError
from temporalio.service import RPCError

from hibernaut._connect import translate
from hibernaut._gateway import GatewayClient, agent_path
from hibernaut._ids import check_new_id
from hibernaut._temporal import ATTEMPT
from hibernaut._waiting import ensure_not_cancelled, patiently, poll
from hibernaut.contracts import (
    AGENT_EXISTS,
    FORK_WORKFLOW,
    TASK_QUEUE,
    ForkRequest,
    ForkResult,
    RewindRequest,
    Standpoint,
)
from hibernaut.contracts.branching import LAST_SNAPSHOT_FAILED
from hibernaut.errors import (
    AgentAlreadyExists,
    AgentClosed,
    AgentError,
    AgentNotFound,
    HibernautError,
    RequestRejected,
    WaitTimeout,
)
from hibernaut.models import AgentState, AgentStatus, Checkpoint

if TYPE_CHECKING:
    from hibernaut._temporal import Workflows

KEEPS = "`hibernaut rewind --discard`, or `discard=True`, goes back without the snapshot of what is left."
SUMMARY_BYTES = 200
"""Temporal's limit of a static summary."""


class CheckpointMissing(AgentError):
    """The agent has no such step, or has not finished it."""

    code = "checkpoint_not_found"


class CheckpointPruned(AgentError):
    """The snapshot of that step was pruned: its files are no more."""

    code = "checkpoint_pruned"


class TurnUnderWay(AgentError):
    """What was asked for is done between two turns alone, and the agent is in the middle of one."""

    code = "turn_under_way"
    retryable = True


class RewindFailed(AgentError):
    """A rewind that was accepted came to nothing; the agent goes on where it was."""

    code = "rewind_failed"


class Branches:
    """The part of an agent's handle that goes back to earlier steps."""

    def __init__(self, agent_id: str, workflows: "Workflows", gateway: GatewayClient) -> None:
        """Keep what the handle of another agent needs as well."""
        self.id = agent_id
        self._workflows = workflows
        self._gateway = gateway

    async def checkpoints(self) -> AsyncGenerator[Checkpoint]:
        """Every step that the agent has finished, the oldest first, branch by branch.

        Those whose snapshot was pruned are among them: `kept` is false, and there is no going back to them.

        Raises:
            AgentNotFound: there is no such agent.
            GatewayNotConfigured, GatewayUnreachable: they come through the gateway.
        """
        async for line in self._gateway.lines(agent_path(self.id, "checkpoints")):
            yield Checkpoint.model_validate_json(line)

    async def fork(self, new_id: str, step: int | None = None, *, branch: int | None = None) -> Self:
        """Make another agent that goes on from a step of this one, whether this one runs, sleeps or is closed.

        It has the conversation and the files of that step, and a computer of its own; no file is copied. When this
        returns, nothing of this agent is needed for it any more. What waits here (messages, approvals, schedules) is
        not its own. Calling again with the same arguments finishes what was begun, as long as it has done nothing yet.

        Args:
            new_id: The new agent's id.
            step: Which step; the newest finished one by default.
            branch: The branch of the step; by default the present one, with the steps that it grew from.

        Raises:
            AgentAlreadyExists: an agent, running or closed, has the new id. Nothing was written.
            CheckpointMissing: there is no such step.
            CheckpointPruned: its files are no more; the message names the nearest step that has them.
            NoWorker: nobody is there to do it.
        """
        check_new_id(new_id)
        source = await self._workflows.query(self.id, "standpoint", [], Standpoint)
        request = ForkRequest(source=source, new_id=new_id, step=step, branch=branch)
        made = await self._made(request)
        if made is None:
            try:
                made = await self._forked(request, f"fork:{new_id}")
            except AgentAlreadyExists:
                # Perhaps the very same, asked for at the same time.
                made = await self._made(request)
                if made is None:
                    raise
        # It may be another fork of that name, which was under way, and this call waited for it.
        same = _is_same(made, request)
        if same is None:
            # Who can tell is whoever can read where the branches grew from.
            asked = request.model_copy(update={"made": made})
            same = await self._forked(asked, f"fork:{new_id}:{uuid4().hex[:8]}") == made
        if not same:
            raise _exists(new_id)
        return self._beside(new_id)

    async def rewind(
        self,
        step: int,
        *,
        branch: int | None = None,
        interrupt: bool = False,
        discard: bool = False,
        timeout: float | None = None,
    ) -> AgentStatus:
        """Go back to the end of a step: conversation and files are as they were then, and a new branch begins there.

        Nothing is lost, unless `discard`: the branch that is left keeps all its steps, its files as of now included,
        and can be gone back to. What commands did outside the computer is not undone.

        Args:
            step: Which step.
            branch: Its branch; by default the present one, with the steps that it grew from.
            interrupt: End the turn under way first.
            discard: Take no last snapshot of the branch: what it did since its newest one is lost. The way back for an
                agent of which no snapshot can be taken.
            timeout: Seconds to wait; it is done all the same.

        Raises:
            TurnUnderWay: the agent is in the middle of a turn, and `interrupt` is false.
            CheckpointMissing: there is no such step.
            CheckpointPruned: its files are no more; the message names the nearest step that has them.
            RewindFailed: the last snapshot of the branch, which is taken first, failed.
            WaitTimeout: not done in time.
        """
        request = RewindRequest(step=step, branch=branch, interrupt=interrupt, discard=discard)
        try:
            status = await self._workflows.update(self.id, "rewind", [request], AgentStatus)
        except RequestRejected as error:
            raise _refused(error.reason_code, error.message, self.id) or error from error
        opened = status.rewinding
        if opened is None:
            return status

        async def look() -> AgentStatus | None:
            seen = await patiently(partial(self._workflows.query, self.id, "status", [], AgentStatus))
            # A build that tells no more than the newest branch may have carried it out.
            told = "" if seen.branch >= opened else seen.rewind_failure or "what became of it is not known"
            failure = seen.rewinds.get(opened, told if seen.rewinding is None else None)
            if failure == "":
                return seen
            if failure is not None:
                hint = KEEPS if failure.startswith(LAST_SNAPSHOT_FAILED) else ""
                raise RewindFailed(
                    f"Agent {self.id} was not rewound: {failure.rstrip('.')}.", agent_id=self.id, hint=hint
                )
            if seen.state is AgentState.CLOSED:
                raise AgentClosed(f"Agent {self.id} was closed before it was rewound.", agent_id=self.id)
            return None

        try:
            async with asyncio.timeout(timeout):
                return await poll(look)
        except TimeoutError as error:
            msg = f"Agent {self.id} was not rewound within {timeout:g} s; it goes on."
            raise WaitTimeout(msg) from error

    def _beside(self, agent_id: str) -> Self:
        """The handle of another agent on the same servers."""
        return type(self)(agent_id, self._workflows, self._gateway)

    async def _made(self, request: ForkRequest) -> ForkResult | None:
        """The agent of the new id, if there is one: it must be a fork of this one that has not gone on."""
        new_id = request.new_id
        try:
            await self._workflows.describe(new_id)
        except AgentNotFound:
            return None
        try:
            status = await self._workflows.query(new_id, "status", [], AgentStatus)
        except RequestRejected as error:
            # It never ran: its spec is wrong.
            raise _exists(new_id) from error
        origin = status.forked_from
        if origin is None or status.state is AgentState.CLOSED or status.turn:
            raise _exists(new_id)
        return ForkResult(agent_id=new_id, agent_uid=status.agent_uid, forked_from=origin)

    async def _forked(self, request: ForkRequest, workflow_id: str) -> ForkResult:
        client = self._workflows.client
        await self._workflows.require_worker()
        try:
            handle = await client.start_workflow(
                FORK_WORKFLOW,
                request,
                # No agent's id has a colon; one fork at a time may make an agent of that id.
                id=workflow_id,
                task_queue=TASK_QUEUE,
                id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,
                id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
                result_type=ForkResult,
                static_summary=f"fork {self.id} into {request.new_id}".encode()[:SUMMARY_BYTES].decode(errors="ignore"),
                rpc_timeout=ATTEMPT,
            )
        except RPCError as error:
            raise translate(error, client.namespace) from error
        return await self._end(handle, request.new_id)

    async def _end(self, handle: WorkflowHandle[object, ForkResult], new_id: str) -> ForkResult:
        while True:
            try:
                return await handle.result(rpc_timeout=ATTEMPT)
            except WorkflowFailureError as error:
                cause = error.cause
                code = (cause.type or "") if isinstance(cause, ApplicationError) else type(cause).__name__
                text = cause.message if isinstance(cause, FailureError) else str(cause)
                if code == AGENT_EXISTS:
                    raise _exists(new_id) from error
                hint = f"The workflow {handle.id} says more."
                other = RequestRejected(text, reason_code=code, agent_id=self.id, hint=hint)
                raise _refused(code, text, self.id) or other from error
            except (RPCError, RPCTimeoutOrCancelledError):
                ensure_not_cancelled()
                await patiently(self._workflows.require_worker)


def _is_same(made: ForkResult, request: ForkRequest) -> bool | None:
    """Whether an agent is what this very fork makes; None when that cannot be told from here."""
    source, origin = request.source, made.forked_from
    branch = source.branch if request.branch is None else request.branch
    if origin.agent_uid != source.agent_uid:
        return False
    if request.step is None:
        newest = source.newest
        return newest is not None and (origin.branch, origin.step) == (newest.branch, newest.step)
    if origin.step != request.step:
        return False
    # A step that is not on its branch is on one that the branch grew from.
    return True if branch == origin.branch or (made.step, made.branch) == (request.step, branch) else None


def _exists(new_id: str) -> AgentAlreadyExists:
    return AgentAlreadyExists(
        f"There is an agent {new_id!r} already.",
        agent_id=new_id,
        hint=f"Choose another id, or `hibernaut delete {new_id}` first.",
    )


def _refused(code: str, text: str, agent_id: str) -> HibernautError | None:
    """The error of ours for what a workflow refused; none when it is not about checkpoints."""
    sentence = text[:1].upper() + text[1:].rstrip(". ") + "."
    listed = f"`hibernaut checkpoints {agent_id}` lists what there is."
    match code:
        case "CheckpointNotFound":
            return CheckpointMissing(sentence, agent_id=agent_id)
        case "CheckpointGone":
            return CheckpointPruned(sentence, agent_id=agent_id, hint=listed)
        case "TurnUnderWay":
            return TurnUnderWay(sentence, agent_id=agent_id, hint="`--interrupt`, or `interrupt=True`, ends the turn.")
        case _:
            return None
