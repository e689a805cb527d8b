"""The upkeep of snapshots as workflows: verify, prune, collect, name. They touch the store alone, no container."""

import asyncio

from temporalio import workflow
from temporalio.exceptions import ActivityError, is_cancelled_exception

from hibernaut import contracts
from workflows import options
from workflows.failures import reason_of
from workflows.tallies import collected, thinned, told, verified

PAGE = 100
"""Agents of one page: so many are verified before a workflow may continue as new."""
AT_ONCE = 4
"""Agents verified side by side."""
PASSES = 100
"""Of one collection; each deletes a bounded number of packs, and the next collection goes on."""


@workflow.defn(name=contracts.VERIFY_WORKFLOW)
class VerifyWorkflow:
    """Reads and checks everything that the snapshots of one agent, or of all, need."""

    def __init__(self) -> None:
        """Nothing is verified yet."""
        self._progress = contracts.UpkeepProgress()

    @workflow.run
    async def run(self, request: contracts.VerifyRequest) -> contracts.VerifyResult:
        """Verify; what is wrong is a result, not a failure.

        Raises:
            ActivityError: The one agent asked for could not be verified: a key is missing.
        """
        if request.agent_uid is not None:
            one = contracts.VerifyAgentRequest(agent_uid=request.agent_uid, agent_id=request.agent_id)
            what = f"snapshots of {request.agent_id or request.agent_uid}"
            found = await options.call(contracts.SNAPSHOTS_VERIFY, one, summary=what)
            result = verified(request.so_far, found, asked_for=True)
        else:
            result = await self._all(request)
        if request.images:
            result = result.model_copy(update={"images": await self._images()})
        workflow.set_current_details(told(result))
        return result

    @workflow.query
    def progress(self) -> contracts.UpkeepProgress:
        """How many agents are done."""
        return self._progress

    async def _all(self, request: contracts.VerifyRequest) -> contracts.VerifyResult:
        result, after = request.so_far, request.after
        slots = asyncio.Semaphore(AT_ONCE)
        while True:
            page = await options.call(
                contracts.SNAPSHOTS_AGENTS,
                contracts.AgentsRequest(after=after, limit=PAGE),
                summary="agents in the store",
            )
            self._progress = contracts.UpkeepProgress(
                text="verifying agents", done=result.checked + result.failed, total=page.total
            )
            for one in await asyncio.gather(*(self._one(uid, slots) for uid in page.agent_uids)):
                result = verified(result, one)
            workflow.set_current_details(told(result))
            if not page.more:
                return result
            after = page.agent_uids[-1]
            if workflow.info().is_continue_as_new_suggested():
                workflow.continue_as_new(request.model_copy(update={"after": after, "so_far": result}))

    async def _one(self, agent_uid: str, slots: asyncio.Semaphore) -> contracts.VerifiedAgent:
        """Verify one of many; one in trouble holds nobody up."""
        async with slots:
            try:
                return await options.call(
                    contracts.SNAPSHOTS_VERIFY,
                    contracts.VerifyAgentRequest(agent_uid=agent_uid),
                    summary=f"snapshots of {agent_uid}",
                )
            except ActivityError as error:
                if is_cancelled_exception(error):
                    raise
                return contracts.VerifiedAgent(agent_uid=agent_uid, error=reason_of(error))
            finally:
                self._progress = self._progress.model_copy(update={"done": self._progress.done + 1})

    async def _images(self) -> contracts.VerifiedImages:
        self._progress = self._progress.model_copy(update={"text": "verifying base images"})
        try:
            return await options.call(
                contracts.IMAGES_VERIFY, contracts.VerifyImagesRequest(), summary="base images in the store"
            )
        except ActivityError as error:
            if is_cancelled_exception(error):
                raise
            return contracts.VerifiedImages(error=reason_of(error))


@workflow.defn(name=contracts.PRUNE_WORKFLOW)
class PruneWorkflow:
    """Thins out the snapshots of one agent."""

    @workflow.run
    async def run(self, request: contracts.PruneRequest) -> contracts.PruneResult:
        """Prune, or say what would be pruned.

        Raises:
            ActivityError: The agent has no snapshot, or one that must be read cannot be.
        """
        name = request.agent_id or request.agent_uid
        result = await options.call(
            contracts.SNAPSHOTS_PRUNE,
            request.model_copy(update={"audit_id": _audit_id()}),
            summary=f"snapshots of {name}",
        )
        done = "would be removed" if result.dry_run else "removed"
        workflow.set_current_details(
            f"{name}: {result.removed_count} snapshots {done}, {result.kept_count} kept by `{result.keep}`"
        )
        return result


@workflow.defn(name=contracts.COLLECTION_WORKFLOW)
class CollectionWorkflow:
    """Thins out every agent's snapshots, then gives back the space of what no snapshot names. Started by a schedule."""

    def __init__(self) -> None:
        """Nothing is pruned yet."""
        self._progress = contracts.UpkeepProgress()

    @workflow.run
    async def run(self, request: contracts.CollectionRequest) -> contracts.CollectionResult:
        """Prune, then collect, pass after pass."""
        request = request.model_copy(update={"audit_id": request.audit_id or _audit_id()})
        result = await self._prune(request) if request.prune else request.so_far
        workflow.set_current_details(told(result))
        for _ in range(PASSES):
            self._progress = contracts.UpkeepProgress(text="collecting packs that no snapshot names")
            one = await options.call(
                contracts.SNAPSHOTS_COLLECT,
                contracts.CollectRequest(audit_id=request.audit_id),
                summary=f"pass {result.collected.passes + 1}",
            )
            result = collected(result, one)
            workflow.set_current_details(told(result))
            if not one.more:
                break
        result = await self._images(result)
        result = result.model_copy(update={"summary": told(result)})
        workflow.set_current_details(result.summary)
        return result

    @workflow.query
    def progress(self) -> contracts.UpkeepProgress:
        """How many agents are done."""
        return self._progress

    async def _prune(self, request: contracts.CollectionRequest) -> contracts.CollectionResult:
        result, after = request.so_far, request.after
        while True:
            self._progress = self._progress.model_copy(update={"text": "pruning snapshots", "done": result.agents})
            page = await options.call(
                contracts.SNAPSHOTS_PRUNE_AGENTS,
                contracts.PruneAgentsRequest(after=after, limit=PAGE, audit_id=request.audit_id),
                summary=f"agents after the first {result.agents}",
            )
            result, after = thinned(result, page), page.after
            self._progress = self._progress.model_copy(update={"total": page.total})
            workflow.set_current_details(told(result))
            if not page.more:
                return result
            if workflow.info().is_continue_as_new_suggested():
                workflow.continue_as_new(request.model_copy(update={"after": after, "so_far": result}))

    async def _images(self, result: contracts.CollectionResult) -> contracts.CollectionResult:
        self._progress = contracts.UpkeepProgress(text="collecting leftovers of base images")
        try:
            images = await options.call(
                contracts.IMAGES_COLLECT, contracts.CollectImagesRequest(), summary="leftovers of base images"
            )
        except ActivityError as error:
            if is_cancelled_exception(error):
                raise
            return result.model_copy(update={"images_failure": reason_of(error)})
        return result.model_copy(update={"images": images})


@workflow.defn(name=contracts.NAME_SNAPSHOT_WORKFLOW)
class NameSnapshotWorkflow:
    """Gives a snapshot a name, which keeps it from being pruned, or takes the name away."""

    @workflow.run
    async def run(self, request: contracts.NameRequest) -> contracts.NameResult:
        """Name it.

        Raises:
            ActivityError: There is no such snapshot, or the name cannot be used or is taken.
        """
        what = "no snapshot" if request.number is None else f"snapshot {request.number}"
        return await options.call(
            contracts.SNAPSHOTS_NAME, request, summary=f"{request.name} is {what} of {request.agent_id}"
        )


def _audit_id() -> str:
    # Run ids begin with the time.
    return f"{workflow.now():%Y%m%dT%H%M%SZ}-{workflow.info().run_id[-12:]}"
