"""transcript.keep, events.append, agent.purge and agent.forget: what the store and Temporal keep of an agent."""

from collections.abc import Awaitable, Callable
from datetime import datetime

from pydantic import TypeAdapter
from temporalio import activity

from activities.audit import AgentAudit
from activities.heartbeat import beating
from activities.ports.snapshots import SnapshotEngine
from activities.ports.store import ObjectStore
from activities.purging import purge
from hibernaut.contracts import (
    AGENT_FORGET,
    AGENT_PURGE,
    EVENTS_APPEND,
    TRANSCRIPT_KEEP,
    AppendEventsRequest,
    AppendEventsResult,
    ForgetRequest,
    ForgetResult,
    KeepTextRequest,
    KeepTextResult,
    PurgeRequest,
    PurgeResult,
    StoreKeys,
)
from hibernaut.models import Event

EVENTS = TypeAdapter(tuple[Event, ...])

ForgetRuns = Callable[[str, str, datetime | None], Awaitable[dict[str, int]]]
"""Deletes every Temporal run of an agent, by its id and uid, that began before a time; how many, by kind."""


class KeepingActivities:
    """Runs on the control queue."""

    def __init__(
        self, store: ObjectStore, snapshots: SnapshotEngine, forget_runs: ForgetRuns, audit: AgentAudit
    ) -> None:
        """Use this store."""
        self._audit = audit
        self._store = store
        self._snapshots = snapshots
        self._forget_runs = forget_runs

    @activity.defn(name=TRANSCRIPT_KEEP.name)
    async def keep(self, request: KeepTextRequest) -> KeepTextResult:
        """Write a long text under the digest of its message id; the same again on a retry."""
        ref = StoreKeys.message(request.agent_uid, request.message_id)
        await self._store.put(ref, request.text.encode())
        return KeepTextResult(ref=ref)

    @activity.defn(name=EVENTS_APPEND.name)
    async def append(self, request: AppendEventsRequest) -> AppendEventsResult:
        """Write a segment of the event log, then what the audit log tells of it; the same again on a retry."""
        ref = StoreKeys.events(request.agent_uid, request.events[0].seq)
        await self._store.put(ref, EVENTS.dump_json(request.events))
        if request.audit is None:
            return AppendEventsResult(ref=ref)
        agent_id = activity.info().workflow_id or ""
        head = await self._audit.append(agent_id, request.agent_uid, request.events, request.audit)
        return AppendEventsResult(ref=ref, audit=head)

    @activity.defn(name=AGENT_PURGE.name)
    async def purge(self, request: PurgeRequest) -> PurgeResult:
        """Delete snapshots, transcript, events, outputs and uploads of an agent.

        Packs that other agents may use stay until the collection finds that none does.
        """
        async with beating() as pulse:
            deleted, _ = await purge(self._store, self._snapshots, request.agent_uid, pulse.say)
        return PurgeResult(objects=deleted)

    @activity.defn(name=AGENT_FORGET.name)
    async def forget(self, request: ForgetRequest) -> ForgetResult:
        """Delete every Temporal run of a closed agent, and those of others that bear what it was told or said."""
        async with beating():
            found = await self._forget_runs(request.agent_id, request.agent_uid, request.started_before)
        return ForgetResult(runs=sum(found.values()), by_kind=found)
