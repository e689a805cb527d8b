"""snapshots.verify: everything that an agent's snapshots need is read from the store and checked."""

from pydantic import ValidationError
from temporalio import activity

from activities.errors import ObjectNotFound, SnapshotError, SnapshotNotFound
from activities.heartbeat import beating
from activities.housekeeping import EVENTS
from activities.ports.store import ObjectStore
from activities.ports.upkeep import Damage as Found, Upkeep, VerifyProgress
from activities.snapshots.layout import parse_ref
from activities.upkeep import resumed
from hibernaut.contracts import (
    SNAPSHOTS_VERIFY,
    Damage,
    StoreKeys,
    UpkeepProgress,
    VerifiedAgent,
    VerifyAgentRequest,
)
from hibernaut.models import EventKind

LISTED = 200
"""Damages in a result, and snapshots of each."""
LOST_LISTED = 1_000
DETAIL_LENGTH = 400
CARRIED = 500
"""Damages that a heartbeat carries: with more, a retry goes on from where there were fewer."""


class VerifyActivities:
    """Runs on the control queue; needs the store alone."""

    def __init__(self, upkeep: Upkeep, store: ObjectStore) -> None:
        """Use this store."""
        self._upkeep = upkeep
        self._store = store

    @activity.defn(name=SNAPSHOTS_VERIFY.name)
    async def verify(self, request: VerifyAgentRequest) -> VerifiedAgent:
        """Read and check all snapshots of one agent; a retry goes on after the last pack that was read.

        Raises:
            SnapshotSealed: The key of something that is to be read is not known to this worker.
        """
        uid = request.agent_uid
        before = resumed(VerifyProgress)
        async with beating() as pulse:

            def tell(progress: VerifyProgress) -> None:
                if len(progress.damage) <= CARRIED:
                    pulse.say(UpkeepProgress(text=progress.text), progress)

            if before is not None:
                # Before the first beat: one without details would make the next attempt begin anew.
                tell(before)
            agent_id = request.agent_id or await agent_id_of(self._store, uid)
            try:
                report = await self._upkeep.verify(uid, progress=tell, resume=before)
            except SnapshotNotFound:
                return VerifiedAgent(agent_uid=uid, agent_id=agent_id)
        for one in report.damage:
            activity.logger.warning("agent %s (%s): %s is %s: %s", agent_id, uid, one.key, one.kind, one.detail)
        return VerifiedAgent(
            agent_uid=uid,
            agent_id=agent_id,
            snapshots=report.snapshots,
            packs=report.packs,
            chunks=report.chunks,
            bytes=report.bytes,
            damage=tuple(_damage(one) for one in report.damage[:LISTED]),
            damages=len(report.damage),
            lost=_numbers(report.lost, LOST_LISTED),
            losses=len(report.lost),
        )


async def agent_id_of(store: ObjectStore, agent_uid: str) -> str:
    """The id of an agent, as its first event tells it; empty when the store does not have that event."""
    try:
        events = EVENTS.validate_json(await store.get(StoreKeys.events(agent_uid, 1)))
    except (ObjectNotFound, ValidationError):
        return ""
    born = events[0] if events and events[0].kind is EventKind.STARTED else None
    return born.summary.removeprefix("agent ") if born is not None else ""


def _damage(one: Found) -> Damage:
    return Damage(
        key=one.key, kind=one.kind, detail=one.detail[:DETAIL_LENGTH], snapshots=_numbers(one.snapshots, LISTED)
    )


def _numbers(refs: tuple[str, ...], most: int) -> tuple[int, ...]:
    found: list[int] = []
    for ref in refs[:most]:
        try:
            found.append(parse_ref(ref)[1])
        except SnapshotError:
            continue
    return tuple(found)
