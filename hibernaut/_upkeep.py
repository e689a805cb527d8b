"""Upkeep of snapshots: workflows of their own do it, so that it is done to the end whoever goes away."""

import asyncio
import uuid
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from typing import TypeVar

from pydantic import BaseModel, ValidationError
from temporalio.client import (
    RPCTimeoutOrCancelledError,
    WorkflowExecutionDescription,
    WorkflowFailureError,
    WorkflowHandle,
    WorkflowQueryFailedError,
)
from temporalio.exceptions import ApplicationError, FailureError
from temporalio.service import RPCError

from hibernaut._connect import translate
from hibernaut._temporal import ATTEMPT, Workflows
from hibernaut._troubles import troubles_of
from hibernaut._waiting import ensure_not_cancelled, patiently
from hibernaut.contracts import (
    AGENT_WORKFLOW,
    COLLECTION_WORKFLOW,
    NAME_SNAPSHOT_WORKFLOW,
    PRUNE_WORKFLOW,
    TASK_QUEUE,
    VERIFY_WORKFLOW,
    CollectionRequest,
    CollectionResult,
    NameRequest,
    NameResult,
    PruneRequest,
    PruneResult,
    Retention,
    UpkeepProgress,
    VerifyRequest,
    VerifyResult,
)
from hibernaut.errors import HibernautError, InvalidRequest, RequestRejected, SnapshotMissing
from hibernaut.models import AgentStatus

LOOK_EVERY = 1.0
"""Seconds between two looks at how far it is; heartbeats come once a second."""
QUERY = timedelta(seconds=2)
LONGEST = timedelta(days=7)
"""What is still held up by then, nobody waits for any more."""
SUMMARY_BYTES = 200
"""Temporal's limit of a static summary."""
ASKED = 500
"""Agents asked for their uid at most."""
SHOWN_ACTIVITIES = 2
"""Of those that run side by side, told about at once."""
VERBS = {
    VERIFY_WORKFLOW: "verify",
    PRUNE_WORKFLOW: "prune",
    COLLECTION_WORKFLOW: "collect",
    NAME_SNAPSHOT_WORKFLOW: "name",
}
"""What its workflow ids begin with."""
RESERVED = frozenset({"latest", "image"})
"""What a snapshot is called by, whatever it is."""

ResultT = TypeVar("ResultT", bound=BaseModel)
Tell = Callable[[UpkeepProgress], None]


class SnapshotUpkeep:
    """Keeps the store of all snapshots small and sound: `AgentClient.snapshots`.

    Each call is a Temporal workflow, which goes on when the caller goes away.
    """

    def __init__(self, workflows: Workflows) -> None:
        """Made by `AgentClient`."""
        self._workflows = workflows

    async def verify(
        self, agent_id: str | None = None, *, images: bool | None = None, progress: Tell | None = None
    ) -> VerifyResult:
        """Read and check everything that the snapshots of an agent, or of all agents, need.

        Damage is in the result, `sound` tells whether there is any.

        Args:
            agent_id: None for every agent in the store.
            images: Base images as well; by default when all agents are verified.
            progress: Called about once a second with how far it is.

        Raises:
            AgentNotFound: there is no such agent.
            NoWorker: nobody is there to do it.
            RequestRejected: it cannot be done; for one agent, when the key that seals its snapshots is missing.
        """
        uid = None if agent_id is None else await self._uid(agent_id)
        request = VerifyRequest(
            agent_uid=uid, agent_id=agent_id or "", images=agent_id is None if images is None else images
        )
        return await self._named(await self._run(VERIFY_WORKFLOW, request, VerifyResult, agent_id, progress))

    async def prune(
        self,
        agent_id: str,
        keep: Retention | None = None,
        *,
        dry_run: bool = False,
        progress: Tell | None = None,
    ) -> PruneResult:
        """Remove the snapshots of an agent that no rule keeps. Their space is given back by the next collections.

        Args:
            agent_id: Whose.
            keep: The rules; None for those of the worker's settings.
            dry_run: Only say what would be removed.
            progress: Called about once a second with how far it is.

        Raises:
            AgentNotFound: there is no such agent.
            NoWorker: nobody is there to do it.
            RequestRejected: it cannot be done; the message says why.
        """
        request = PruneRequest(agent_uid=await self._uid(agent_id), agent_id=agent_id, keep=keep, dry_run=dry_run)
        return await self._run(PRUNE_WORKFLOW, request, PruneResult, agent_id, progress)

    async def collect(self, *, prune: bool = False, progress: Tell | None = None) -> CollectionResult:
        """Give back the space of what no snapshot names: condemn it now, delete what was condemned long enough ago.

        A schedule does that every day. Nothing is deleted before the grace of the worker's settings has passed.

        Args:
            prune: Before that, prune every agent's snapshots as the worker's settings say; so does the schedule.
            progress: Called about once a second with how far it is.

        Raises:
            NoWorker: nobody is there to do it.
            RequestRejected: it cannot be done; the message says why.
        """
        return await self._run(COLLECTION_WORKFLOW, CollectionRequest(prune=prune), CollectionResult, None, progress)

    async def name(self, agent_id: str, number: int, name: str, *, move: bool = False) -> NameResult:
        """Give a snapshot a name, which keeps it from being pruned; the same again is harmless.

        Args:
            agent_id: Whose snapshot.
            number: Which.
            name: 1 to 64 of letters, digits, `.`, `_` and `-`, beginning with a letter or digit.
            move: Take the name from another snapshot that has it.

        Raises:
            SnapshotMissing: there is no such snapshot.
            InvalidRequest: the name cannot be used.
            RequestRejected: the name is another snapshot's.
        """
        if name in RESERVED or name.isdecimal():
            raise InvalidRequest(f"A snapshot cannot be named {name!r}.", hint="That means another one already.")
        uid = await self._uid(agent_id)
        request = NameRequest(agent_uid=uid, agent_id=agent_id, name=name, number=number, move=move)
        return await self._run(NAME_SNAPSHOT_WORKFLOW, request, NameResult, agent_id, None)

    async def unname(self, agent_id: str, name: str) -> bool:
        """Take a name away; whether there was one."""
        request = NameRequest(agent_uid=await self._uid(agent_id), agent_id=agent_id, name=name)
        return (await self._run(NAME_SNAPSHOT_WORKFLOW, request, NameResult, agent_id, None)).changed

    async def _named(self, result: VerifyResult) -> VerifyResult:
        """With the ids of damaged agents whose first event is not in the store yet: they never slept, and are asked."""
        unknown = {one.agent_uid for one in result.agents if one.damages and not one.agent_id}
        found: dict[str, str] = {}
        query = f"WorkflowType = '{AGENT_WORKFLOW}' AND ExecutionStatus = 'Running'"
        if unknown:
            with suppress(RPCError, HibernautError):
                async for run in self._workflows.client.list_workflows(query, limit=ASKED, rpc_timeout=ATTEMPT):
                    found[await self._uid(run.id)] = run.id
                    if unknown <= found.keys():
                        break
        agents = (
            one.model_copy(update={"agent_id": one.agent_id or found.get(one.agent_uid, "")}) for one in result.agents
        )
        return result.model_copy(update={"agents": tuple(agents)})

    async def _uid(self, agent_id: str) -> str:
        return (await self._workflows.query(agent_id, "status", [], AgentStatus)).agent_uid

    async def _run(
        self, workflow: str, request: BaseModel, result: type[ResultT], agent_id: str | None, tell: Tell | None
    ) -> ResultT:
        """Start a workflow and wait for its end, telling how far it is."""
        client = self._workflows.client
        await self._workflows.require_worker()
        verb = VERBS[workflow]
        subject = "all agents" if agent_id is None else f"agent {agent_id}"
        try:
            handle = await client.start_workflow(
                workflow,
                request,
                # No agent's id has a colon.
                id=f"{verb}:{agent_id or 'all'}:{uuid.uuid4().hex[:8]}",
                task_queue=TASK_QUEUE,
                execution_timeout=LONGEST,
                result_type=result,
                static_summary=f"{verb} snapshots: {subject}".encode()[:SUMMARY_BYTES].decode(errors="ignore"),
                rpc_timeout=ATTEMPT,
            )
        except RPCError as error:
            raise translate(error, client.namespace) from error
        ending = asyncio.create_task(self._end(handle, agent_id or ""))
        try:
            while not (await asyncio.wait({ending}, timeout=LOOK_EVERY))[0]:
                if tell is not None:
                    with suppress(HibernautError):
                        tell(await self._look(handle))
            return ending.result()
        finally:
            ending.cancel()

    async def _end(self, handle: WorkflowHandle[object, ResultT], agent_id: str) -> ResultT:
        while True:
            try:
                return await handle.result(rpc_timeout=ATTEMPT)
            except WorkflowFailureError as error:
                raise _failure(error, handle.id, agent_id) from error
            except (RPCError, RPCTimeoutOrCancelledError):
                ensure_not_cancelled()
                await patiently(self._workflows.require_worker)

    async def _look(self, handle: WorkflowHandle[object, object]) -> UpkeepProgress:
        description = await self._workflows.describe(handle.id)
        found = UpkeepProgress()
        # A server that answers no query in time, or a workflow without one: the heartbeats tell enough.
        with suppress(RPCError, RPCTimeoutOrCancelledError, WorkflowQueryFailedError):
            found = await handle.query("progress", result_type=UpkeepProgress, rpc_timeout=QUERY)
        ensure_not_cancelled()
        text = "; ".join(await self._told(description))
        return found.model_copy(update={"text": text}) if text else found

    async def _told(self, description: WorkflowExecutionDescription) -> list[str]:
        """What holds the workflow up, else what its activities say."""
        if troubles := await troubles_of(description, self._workflows.client.data_converter):
            return [f"held up: {one.activity}, attempt {one.attempt}: {one.reason}" for one in troubles[:1]]
        found: list[str] = []
        for pending in description.raw_description.pending_activities:
            payloads = list(pending.heartbeat_details.payloads)[:1]
            try:
                details = await self._workflows.client.data_converter.decode(payloads)
                found += [UpkeepProgress.model_validate(details[0]).text] if details else []
            except ValidationError:
                # A worker of another release: nothing to show.
                continue
        return [text for text in found if text][:SHOWN_ACTIVITIES]


def _failure(error: WorkflowFailureError, workflow_id: str, agent_id: str) -> HibernautError:
    cause: BaseException = error.cause
    while not isinstance(cause, ApplicationError) and cause.__cause__ is not None:
        # An activity that failed wraps what it raised.
        cause = cause.__cause__
    text = cause.message if isinstance(cause, FailureError) else str(cause)
    code = (cause.type or "") if isinstance(cause, ApplicationError) else type(cause).__name__
    match code:
        case "SnapshotNotFound":
            return SnapshotMissing(text)
        case "InvalidSnapshotName":
            return InvalidRequest(text)
        case "SnapshotNameTaken":
            hint = "`--move`, or `move=True`, takes the name from there."
            return RequestRejected(text, reason_code=code, agent_id=agent_id, hint=hint)
        case _:
            hint = f"The workflow {workflow_id} says more."
            return RequestRejected(text, reason_code=code, agent_id=agent_id, hint=hint)
