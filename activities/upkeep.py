"""snapshots.agents, .prune, .prune_agents, .collect and .name: what thins the store of snapshots out."""

from dataclasses import dataclass
from typing import Final, TypeVar

from pydantic import BaseModel, ValidationError
from temporalio import activity

from activities.errors import HibernautActivityError, SnapshotNotFound
from activities.heartbeat import Pulse, beating
from activities.late import delete_late
from activities.ports.snapshots import Progress
from activities.ports.store import ObjectStore
from activities.ports.upkeep import PruneReport, Retention, Upkeep
from activities.upkeep_audit import AuditFile, UpkeepLine
from hibernaut.contracts import (
    SNAPSHOTS_AGENTS,
    SNAPSHOTS_COLLECT,
    SNAPSHOTS_NAME,
    SNAPSHOTS_PRUNE,
    SNAPSHOTS_PRUNE_AGENTS,
    AgentsRequest,
    AgentsResult,
    CollectRequest,
    CollectResult,
    FailedAgent,
    KeptSnapshot,
    NameRequest,
    NameResult,
    PruneAgentsRequest,
    PruneAgentsResult,
    PruneRequest,
    PruneResult,
    Retention as Rules,
    StoreKeys,
    UpkeepProgress,
)

ModelT = TypeVar("ModelT", bound=BaseModel)

EVERYTHING: Final = Retention(last=2**31)
"""More snapshots than any agent has."""
KEPT_LISTED = 5_000
REMOVED_LISTED = 20_000
"""Numbers in a result, which goes through the history."""
FAILURES_LISTED = 50
UNREADABLE_LISTED = 50
REASON_LENGTH = 300


class UpkeepActivities:
    """Runs on the control queue; needs the store alone."""

    def __init__(self, upkeep: Upkeep, store: ObjectStore, keep: Retention | None) -> None:
        """Use this store; `keep` is the owner's retention, None when everything is kept."""
        self._upkeep = upkeep
        self._store = store
        self._keep = keep

    @activity.defn(name=SNAPSHOTS_AGENTS.name)
    async def agents(self, request: AgentsRequest) -> AgentsResult:
        """List agents that have something in the store, in the order of their uids."""
        async with beating():
            everybody, found = await self._after(request.after)
        page = found[: request.limit]
        return AgentsResult(agent_uids=tuple(page), total=everybody, more=len(found) > len(page))

    @activity.defn(name=SNAPSHOTS_PRUNE.name)
    async def prune(self, request: PruneRequest) -> PruneResult:
        """Remove the snapshots of one agent that no rule keeps; a retry goes on where the last attempt ended.

        Raises:
            StoreUnavailable: No audit line can be written, so nothing is removed.
        """
        keep = Retention(**request.keep.model_dump()) if request.keep is not None else self._keep
        rules = _told(keep)
        job = _Pruning(request.agent_uid, request.agent_id, keep or EVERYTHING, "operator")
        audit = self._audit(f"prune-{request.audit_id}")
        async with beating() as pulse:
            try:
                if request.dry_run:
                    report = await self._upkeep.prune(job.agent_uid, job.keep, dry_run=True, progress=telling(pulse))
                    removed = report.removed
                else:
                    report = await self._prune(job, audit, pulse)
                    removed = await self._gone(job.agent_uid, report, audit)
            except SnapshotNotFound:
                return PruneResult(agent_uid=request.agent_uid, dry_run=request.dry_run, keep=rules)
        kept = sorted(
            [KeptSnapshot(number=one.number, rules=one.rules) for one in report.kept]
            + [KeptSnapshot(number=number, rules=("base",)) for number in report.kept_as_base],
            key=lambda one: one.number,
        )
        return PruneResult(
            agent_uid=request.agent_uid,
            dry_run=request.dry_run,
            keep=rules,
            kept=tuple(kept[-KEPT_LISTED:]),
            kept_count=len(kept),
            removed=removed[-REMOVED_LISTED:],
            removed_count=len(removed),
            audit_ref=audit.key if removed and not request.dry_run else None,
        )

    @activity.defn(name=SNAPSHOTS_PRUNE_AGENTS.name)
    async def prune_agents(self, request: PruneAgentsRequest) -> PruneAgentsResult:
        """Thin out the snapshots of some agents as the owner's retention says; one in trouble holds nobody up.

        Raises:
            StoreUnavailable: The store does not answer; a retry goes on with the agent it was at.
        """
        if self._keep is None:
            return PruneAgentsResult(after=request.after)
        done = resumed(PruneAgentsResult) or PruneAgentsResult(after=request.after)
        audit = self._audit(f"collection-{request.audit_id}-{request.after or 'first'}")
        async with beating() as pulse:
            # Before the first beat: one without details would make the next attempt begin anew.
            pulse.say(UpkeepProgress(text="listing agents"), done)
            total, found = await self._after(done.after)
            page = found[: request.limit - done.agents]
            for uid in page:
                pulse.say(UpkeepProgress(text=f"pruning {uid[:8]}, {done.removed} snapshots removed so far"), done)
                done = await self._one(done, _Pruning(uid, "", self._keep, "collection"), audit)
        return done.model_copy(update={"total": total, "more": len(found) > len(page)})

    @activity.defn(name=SNAPSHOTS_COLLECT.name)
    async def collect(self, request: CollectRequest) -> CollectResult:
        """Make one pass of the collection: condemn packs that nothing names, delete those condemned long ago.

        Raises:
            StoreUnavailable: No audit line can be written, so nothing is removed.
        """
        async with beating() as pulse:
            line = UpkeepLine(actor="collection", run=activity.info().workflow_id or "", action="packs.collect")
            await self._audit(f"collection-{request.audit_id}").add(line)
            report = await self._upkeep.collect(progress=telling(pulse))
            if late := await delete_late(self._store, telling(pulse)):
                activity.logger.warning("%d objects of deleted agents came in late, and are deleted", late)
        unreadable = report.unreadable[:UNREADABLE_LISTED]
        return CollectResult(passes=1, **report.model_copy(update={"unreadable": unreadable}).model_dump())

    @activity.defn(name=SNAPSHOTS_NAME.name)
    async def name(self, request: NameRequest) -> NameResult:
        """Give a snapshot a name, or take a name away; the same again is harmless.

        Raises:
            SnapshotNotFound: There is no such snapshot.
            SnapshotNameTaken: The name is another snapshot's.
            InvalidSnapshotName: The name cannot be used.
        """
        if request.number is None:
            return NameResult(name=request.name, changed=await self._upkeep.unname(request.agent_uid, request.name))
        await self._upkeep.name_snapshot(request.agent_uid, request.number, request.name, move=request.move)
        return NameResult(name=request.name, number=request.number)

    async def _one(self, done: PruneAgentsResult, job: "_Pruning", audit: AuditFile) -> PruneAgentsResult:
        """Prune one of many agents, and count it."""
        removed = kept = 0
        failed = done.failed
        try:
            report = await self._prune(job, audit, None)
            removed = len(await self._gone(job.agent_uid, report, audit))
            kept = len(report.kept) + len(report.kept_as_base)
        except SnapshotNotFound:
            # It never had any, or was deleted.
            pass
        except HibernautActivityError as error:
            if error.retryable:
                raise
            activity.logger.warning("snapshots of %s were not pruned: %s", job.agent_uid, error)
            if len(failed) < FAILURES_LISTED:
                failed = (*failed, FailedAgent(agent_uid=job.agent_uid, reason=str(error)[:REASON_LENGTH]))
        return done.model_copy(
            update={
                "agents": done.agents + 1,
                "removed": done.removed + removed,
                "kept": done.kept + kept,
                "failed": failed,
                "after": job.agent_uid,
            }
        )

    async def _prune(self, job: "_Pruning", audit: AuditFile, pulse: Pulse | None) -> PruneReport:
        """Find what is to go, write it down, remove it."""
        tell = telling(pulse) if pulse is not None else None
        plan = await self._upkeep.prune(job.agent_uid, job.keep, dry_run=True, progress=tell)
        if not plan.removed:
            return plan.model_copy(update={"dry_run": False})
        await audit.add(job.line(plan.removed))
        report = await self._upkeep.prune(job.agent_uid, job.keep, progress=tell)
        # An hour ended between the two, and others went with them.
        if late := tuple(sorted(set(report.removed) - set(plan.removed))):
            await audit.add(job.line(late))
        return report

    async def _gone(self, agent_uid: str, report: PruneReport, audit: AuditFile) -> tuple[int, ...]:
        """What this and earlier attempts removed."""
        kept = {one.number for one in report.kept} | set(report.kept_as_base)
        written = {number for line in await audit.lines() if line.agent_uid == agent_uid for number in line.snapshots}
        return tuple(sorted((written | set(report.removed)) - kept))

    async def _after(self, uid: str) -> tuple[int, list[str]]:
        """How many agents there are, and those after a uid."""
        everybody = sorted(await self._upkeep.agents())
        return len(everybody), [one for one in everybody if one > uid]

    def _audit(self, name: str) -> AuditFile:
        return AuditFile(self._store, StoreKeys.audit(f"{activity.info().scheduled_time:%Y-%m-%d}", name))


@dataclass(frozen=True, slots=True)
class _Pruning:
    """Whose snapshots are pruned, how, and who wants it."""

    agent_uid: str
    agent_id: str
    keep: Retention
    actor: str

    def line(self, numbers: tuple[int, ...]) -> UpkeepLine:
        return UpkeepLine(
            actor=self.actor,
            run=activity.info().workflow_id or "",
            action="snapshots.prune",
            agent_uid=self.agent_uid,
            agent_id=self.agent_id,
            keep=_told(self.keep),
            snapshots=numbers,
        )


def _told(keep: Retention | None) -> str:
    return "all" if keep is None or keep == EVERYTHING else str(Rules(**keep.model_dump()))


def telling(pulse: Pulse) -> Progress:
    """Have each heartbeat tell what goes on."""

    def tell(text: str) -> None:
        pulse.say(UpkeepProgress(text=text))

    return tell


def resumed(kind: type[ModelT]) -> ModelT | None:
    """What the last attempt of this activity left in its heartbeats for this one."""
    details = activity.info().heartbeat_details
    try:
        return kind.model_validate(details[1]) if len(details) > 1 else None
    except ValidationError:
        # Of another release.
        return None
