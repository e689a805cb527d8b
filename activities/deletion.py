"""agent.survey and agent.certify: what an agent has is counted before its deletion, and looked for after it."""

from collections import defaultdict
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

from pydantic import Field, ValidationError
from temporalio import activity

from activities.errors import ObjectExists, ObjectNotFound, SnapshotOvertaken
from activities.heartbeat import beating
from activities.ports.snapshots import SnapshotEngine
from activities.ports.store import ObjectStore
from activities.purging import purge
from activities.remnants import MOST_REMNANTS, remnants_of
from activities.snapshots import layout
from activities.snapshots.deleting import is_left
from activities.snapshots.rewriting import Kept, Rewriting
from hibernaut.contracts import StoreKeys, stubs
from hibernaut.contracts.deletion import CertifyRequest, CertifyResult, SurveyRequest, SurveyResult
from hibernaut.models.base import Open
from hibernaut.models.deletion import Amount, Certificate, Inspection, Pending, Retained, sealed, written

SWEEPS = 5
"""How often what came in late is deleted before the deletion is given back to be tried again."""
SHARED = "packs: others need a part of each; it is kept until nobody does, and the rest is overwritten"
UNNEEDED = "packs: nobody needs them; they are empty, and the collection deletes them after its grace"
WHOLE = "packs: some could not be rewritten, and are kept whole: they, or manifests that may need them, cannot be read"
AUDIT = "audit: the agent's chain, which has ids, times and keyed digests, and no content"
UNREADABLE = "packs: some manifests of others cannot be read, and what they need is not known"
NAMED = ("transcript", "compactions", "messages", "events", "exec", "uploads", "artifacts", "functions", "audit")
"""Folders of an agent that are counted under their own names."""

FindRuns = Callable[[str, str, datetime | None], Awaitable[dict[str, int]]]
"""How many runs Temporal has of an agent of this id and uid that began before a time, by kind."""


class Draft(Open):
    """What a deletion found when it began."""

    asked_by: str = ""
    asked_at: datetime
    begun_at: datetime
    counted: dict[str, Amount] = Field(default_factory=dict[str, Amount])
    runs: dict[str, int] = Field(default_factory=dict[str, int])
    inherited: tuple[str, ...] = ()
    """Packs of agents that were deleted before, which its snapshots name."""
    remnants: tuple[str, ...] = ()


class DeletionActivities:
    """Runs on the control queue."""

    def __init__(
        self,
        store: ObjectStore,
        snapshots: SnapshotEngine,
        rewriting: Rewriting,
        find_runs: FindRuns,
        *,
        audit: ObjectStore | None = None,
        key: bytes = b"",
    ) -> None:
        """Use this store.

        Args:
            store: The agents'.
            snapshots: Deletes what came in late.
            rewriting: Overwrites what nobody needs of what is left.
            find_runs: Looks for runs in Temporal.
            audit: The store of the audit log; by default the agents'.
            key: Makes the digests of certificates such that nobody without it can make them; empty: there is none.
        """
        self._audit = audit or store
        self._store = store
        self._snapshots = snapshots
        self._rewriting = rewriting
        self._find_runs = find_runs
        self._key = key or None

    @activity.defn(name=stubs.AGENT_SURVEY.name)
    async def survey(self, request: SurveyRequest) -> SurveyResult:
        """Count what an agent has and keep the count; a later deletion of the same agent finds the first one's."""
        async with beating():
            if await self._store.head(StoreKeys.certificate(request.name)) is not None:
                return SurveyResult()
            draft = await self._draft(request.name)
            if draft is None:
                now = datetime.now(UTC)
                draft = Draft(
                    asked_by=request.asked_by,
                    asked_at=request.asked_at or now,
                    begun_at=now,
                    counted=await self._counted(request.agent_uid),
                    runs=await self._find_runs(
                        request.agent_id, request.agent_uid, request.begun_at or request.asked_at
                    ),
                    inherited=await self._rewriting.inherited(request.agent_uid) if request.agent_uid else (),
                    remnants=await remnants_of(
                        self._store, request.agent_uid, request.seen_host, request.seen_generation
                    ),
                )
                # Who looks for the certificate by the agent's id finds the uid.
                await self._store.put(f"{StoreKeys.certificates_of(request.agent_id)}{request.name}", b"1\n")
                try:
                    data = draft.model_dump_json().encode()
                    await self._store.put(StoreKeys.certificate_draft(request.name), data, if_none_match=True)
                except ObjectExists:
                    draft = await self._draft(request.name) or draft
        return SurveyResult(
            objects=sum(one.objects for one in draft.counted.values()),
            bytes=sum(one.bytes for one in draft.counted.values()),
        )

    @activity.defn(name=stubs.AGENT_CERTIFY.name)
    async def certify(self, request: CertifyRequest) -> CertifyResult:
        """Look whether everything is gone, and write the certificate, once.

        Raises:
            SnapshotOvertaken: Something of the agent comes back all the time; worth a retry.
        """
        ref = StoreKeys.certificate(request.name)
        async with beating() as pulse:
            found = await self._certificate(ref)
            if found is None:
                runs = await self._runs_gone(request)
                await self._swept(request.agent_uid)
                draft, kept = await self._draft(request.name), Kept()
                if request.agent_uid:
                    inherited = draft.inherited if draft is not None else ()
                    kept = await self._rewriting.rewrite(request.agent_uid, inherited, pulse.say)
                # That may have taken minutes; what the certificate says is how it is now.
                checked = [*await self._swept(request.agent_uid), *runs]
                found = sealed(await self._written(request, draft, checked, kept), self._key)
                try:
                    await self._store.put(ref, written(found).encode(), if_none_match=True)
                except ObjectExists:
                    found = await self._certificate(ref) or found
            await self._store.delete([StoreKeys.certificate_draft(request.name)])
        return CertifyResult(
            ref=ref,
            digest=found.digest.value if found.digest else "",
            runs=sum(found.runs.values()),
            retained_packs=len(found.retained.packs),
            pending_packs=found.pending.packs,
            remnants=found.remnants,
        )

    async def _written(
        self, request: CertifyRequest, draft: Draft | None, checked: list[Inspection], kept: Kept
    ) -> Certificate:
        now = datetime.now(UTC)
        if draft is None:
            # Somebody deleted it: nothing is known of what there was.
            draft = Draft(asked_by=request.asked_by, asked_at=request.asked_at or now, begun_at=now)
        removed = dict(draft.counted)
        if "packs" in removed:
            # What is empty is gone, but for its name.
            size = sum(pack.bytes for pack in kept.packs) + kept.idle_bytes
            before = removed["packs"]
            removed["packs"] = Amount(
                objects=max(0, before.objects - len(kept.packs)), bytes=max(0, before.bytes - size)
            )
        # A worker that died after it had deleted some did not tell of them.
        kinds = {**draft.runs, **request.runs}
        runs = {kind: max(draft.runs.get(kind, 0), request.runs.get(kind, 0)) for kind in kinds}
        audit = await self._audited(request.agent_uid)
        why = (
            (SHARED, any(pack.needed_by for pack in kept.packs)),
            (UNNEEDED, bool(kept.idle)),
            (WHOLE, bool(kept.whole)),
            (UNREADABLE, bool(kept.unreadable)),
            (AUDIT, bool(audit.objects)),
        )
        return Certificate(
            agent_id=request.agent_id,
            agent_uid=request.name,
            asked_by=draft.asked_by,
            asked_at=draft.asked_at,
            begun_at=draft.begun_at,
            written_at=now,
            removed={kind: amount for kind, amount in sorted(removed.items()) if amount.objects},
            runs={kind: number for kind, number in sorted(runs.items()) if number},
            checked=tuple(checked),
            retained=Retained(
                packs=kept.packs,
                audit=audit,
                unreadable=kept.unreadable,
                why=tuple(sentence for sentence, holds in why if holds),
            ),
            pending=Pending(packs=kept.idle, bytes=kept.idle_bytes, why=UNNEEDED if kept.idle else ""),
            rewritten=kept.rewritten,
            remnants=tuple(dict.fromkeys((*draft.remnants, *request.remnants)))[:MOST_REMNANTS],
        )

    async def _swept(self, agent_uid: str) -> list[Inspection]:
        """See that the store has nothing of the agent but what is retained; what came in late is deleted as well."""
        if not agent_uid:
            return []
        prefixes = (StoreKeys.agent(agent_uid), layout.indexes_prefix(agent_uid))
        for _ in range(SWEEPS):
            found = {prefix: await self._left(prefix, agent_uid) for prefix in prefixes}
            if not any(found.values()):
                return [Inspection(what=prefix, found=0) for prefix in prefixes]
            await purge(self._store, self._snapshots, agent_uid, lambda _: None)
        msg = f"Something of agent {agent_uid} is written again each time it is deleted; its deletion goes on."
        raise SnapshotOvertaken(msg)

    async def _left(self, prefix: str, agent_uid: str) -> int:
        shared = await self._store.head(layout.shared_key(agent_uid)) is not None
        infos = [info async for info in self._store.list(prefix)]
        return sum(not (shared and is_left(info.key, agent_uid)) for info in infos)

    async def _runs_gone(self, request: CertifyRequest) -> list[Inspection]:
        before = request.begun_at or request.asked_at
        found = await self._find_runs(request.agent_id, request.agent_uid, before)
        if any(found.values()):
            names = ", ".join(kind for kind, number in sorted(found.items()) if number)
            msg = f"Temporal lists runs of {request.agent_id} again ({names}); its deletion goes on."
            raise SnapshotOvertaken(msg)
        return [Inspection(what=f"runs: {kind}", found=number) for kind, number in sorted(found.items())]

    async def _counted(self, agent_uid: str) -> dict[str, Amount]:
        if not agent_uid:
            return {}
        total: defaultdict[str, Amount] = defaultdict(Amount)
        for prefix in (StoreKeys.agent(agent_uid), layout.indexes_prefix(agent_uid)):
            async for info in self._store.list(prefix):
                if info.key == layout.shared_key(agent_uid):
                    # It stays as long as packs may; it bears nothing.
                    continue
                kind, so_far = kind_of(info.key), total[kind_of(info.key)]
                total[kind] = Amount(objects=so_far.objects + 1, bytes=so_far.bytes + info.size)
        return dict(total)

    async def _audited(self, agent_uid: str) -> Amount:
        if not agent_uid:
            return Amount()
        sizes = [info.size async for info in self._audit.list(f"audit/agents/{agent_uid}/")]
        return Amount(objects=len(sizes), bytes=sum(sizes))

    async def _draft(self, name: str) -> Draft | None:
        try:
            return Draft.model_validate_json(await self._store.get(StoreKeys.certificate_draft(name)))
        except (ObjectNotFound, ValidationError):
            return None

    async def _certificate(self, ref: str) -> Certificate | None:
        try:
            return Certificate.model_validate_json(await self._store.get(ref))
        except ObjectNotFound:
            return None


def kind_of(key: str) -> str:
    """What an object of an agent is counted under."""
    first, _, rest = key.partition("/")
    if first != "agents":
        return "offers"
    parts = rest.split("/")[1:]
    if parts[0] == "snapshots":
        return "packs" if parts[1] == "packs" else "manifests" if parts[1] == "manifests" else "snapshot notes"
    if parts[0] == "head.json":
        return "snapshot notes"
    return parts[0] if parts[0] in NAMED else "other"
