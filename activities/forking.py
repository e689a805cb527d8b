"""agent.fork and agent.rewind: a conversation and a computer go on from a step, elsewhere or once more."""

import asyncio
import hashlib
import json
from collections.abc import Sequence
from datetime import UTC, datetime

from temporalio import activity

from activities.checkpoints import CheckpointGone
from activities.errors import ObjectNotFound, SnapshotNotFound, TranscriptDamaged
from activities.heartbeat import Pulse, beating
from activities.items import function_output, load_record, native_output, render
from activities.ports.model import Item
from activities.ports.snapshots import SnapshotEngine
from activities.transcript import Segment, Transcript, unanswered
from hibernaut.contracts import (
    AGENT_FORK,
    AGENT_REWIND,
    ForkStateRequest,
    ForkStateResult,
    FoundCheckpoint,
    OpenBranchRequest,
    OpenBranchResult,
    StoreKeys,
)
from hibernaut.models import Checkpoint, SnapshotStatus, ToolCall, Usage

PARALLEL = 16
NOT_KNOWN = "what became of this call is not known"


class BranchActivities:
    """Runs on the control queue."""

    def __init__(self, transcript: Transcript, snapshots: SnapshotEngine) -> None:
        """Use this store."""
        self._transcript = transcript
        self._snapshots = snapshots

    @activity.defn(name=AGENT_FORK.name)
    async def fork(self, request: ForkStateRequest) -> ForkStateResult:
        """Write everything a new agent needs to go on from another's step; again writes the same.

        No file is copied. From the moment this returns, nothing of the other agent is needed any more.

        Raises:
            CheckpointGone: The step's snapshot was pruned, or the agent deleted, meanwhile.
            TranscriptDamaged: The conversation cannot be read.
        """
        async with beating() as pulse:
            found = FoundCheckpoint(checkpoint=request.checkpoint, pending=request.pending)
            ref = await self._copied(request.checkpoint.segment_ref, request.new_uid, pulse)
            ref = await self._joined(request.agent_uid, found, request.new_uid, request.branch, ref)
            files = request.checkpoint.snapshot
            if files is None:
                return ForkStateResult(transcript_ref=ref)
            pulse.say("files")
            try:
                info = await self._snapshots.fork(files.ref, agent_uid=request.new_uid, generation=request.generation)
            except SnapshotNotFound as error:
                raise CheckpointGone(str(error)) from error
        snapshot = SnapshotStatus(
            ref=info.ref,
            number=info.number,
            taken_at=files.taken_at,
            files=info.files_total,
            bytes_total=info.bytes_total,
            bytes_new=info.bytes_new_stored,
            duration_ms=info.duration_ms,
            capture=info.capture,
            summary=f"snapshot {info.number}: forked, {info.files_total} files",
        )
        return ForkStateResult(transcript_ref=ref, snapshot=snapshot, image_id=info.image_id)

    @activity.defn(name=AGENT_REWIND.name)
    async def rewind(self, request: OpenBranchRequest) -> OpenBranchResult:
        """Begin a branch at a step, and keep that step's snapshot from being pruned; again does the same.

        From here on no earlier generation of the agent can write a snapshot, wherever its sandbox may still run.

        Raises:
            CheckpointGone: The step's snapshot was pruned meanwhile.
            SnapshotFenced: A later generation of the agent has taken over.
        """
        async with beating():
            await self._snapshots.claim(agent_uid=request.agent_uid, generation=request.generation)
            found = request.found
            ref = found.checkpoint.segment_ref
            ref = await self._joined(request.agent_uid, found, request.agent_uid, request.branch, ref)
            files = found.checkpoint.snapshot
            if files is not None:
                # The last thing: what it changes is what pruning goes by.
                try:
                    await self._snapshots.rest(files.ref, agent_uid=request.agent_uid, generation=request.generation)
                except SnapshotNotFound as error:
                    raise CheckpointGone(str(error)) from error
        return OpenBranchResult(transcript_ref=ref)

    async def _copied(self, last: str, uid: str, pulse: Pulse) -> str:
        """Write the segments up to one under another agent's uid; the key of the last."""
        chain = await self._transcript.segments(last)
        gate = asyncio.Semaphore(PARALLEL)
        pulse.say(f"{len(chain)} steps")

        async def keep(segment: Segment) -> None:
            async with gate:
                await self._transcript.keep(segment)

        copies: list[Segment] = []
        for segment in chain:
            previous = copies[-1].key if copies else None
            copies.append(segment.model_copy(update={"agent_uid": uid, "previous": previous}))
        await asyncio.gather(*(keep(copy) for copy in copies))
        return copies[-1].key

    async def _joined(self, source: str, found: FoundCheckpoint, uid: str, branch: int, ref: str) -> str:
        """Answer the calls of a step that ended with some, in a segment without a reply; the new end."""
        point = found.checkpoint
        last = await self._transcript.segment(point.segment_ref)
        told = await self._told(source, found, last)
        if not told:
            return ref
        answers = tuple(dict(item) for item in told)
        joint = Segment(
            agent_uid=uid,
            branch=branch,
            step=point.step,
            ordinal=0,
            previous=ref,
            request_digest=_digest(ref, answers),
            new_items=answers,
            reply_items=(),
            text="",
            refusal=False,
            tool_calls=(),
            usage=Usage(),
            provider=last.provider,
            model=last.model,
            response_id=None,
            created_at=datetime.now(UTC),
            duration_ms=0,
        )
        kept, _ = await self._transcript.keep(joint)
        return kept.key

    async def _told(self, source: str, found: FoundCheckpoint, last: Segment) -> list[Item]:
        """What the model heard after a step, or was about to hear: answers to its calls, and notes."""
        if found.pending:
            told = await render(found.pending, self._transcript.store)
        else:
            told = await self._heard(found.checkpoint, last)
        missing = set(unanswered(last, told))
        answers = [
            await self._answer(source, found, index, call)
            for index, call in enumerate(last.tool_calls)
            if call.call_id in missing
        ]
        return [*answers, *told]

    async def _heard(self, point: Checkpoint, last: Segment) -> list[Item]:
        """What the step after this one began with, but for what people said."""
        prefix = StoreKeys.segment(last.agent_uid, point.branch, point.step + 1, 0).rpartition("-")[0]
        async for info in self._transcript.store.list(prefix):
            following = await self._transcript.segment(info.key)
            if following.previous == last.key:
                return [item for item in following.new_items if item.get("role") != "user"]
        return []

    async def _answer(self, source: str, found: FoundCheckpoint, index: int, call: ToolCall) -> Item:
        """The answer to a call that no model ever saw: its commands' record, else that nothing is known."""
        point = found.checkpoint
        commands, error = (), call.error
        key = StoreKeys.exec_record(source, f"b{point.branch}-s{point.step}-c{index}")
        if error is None:
            try:
                commands = (await load_record(key, self._transcript.store)).commands
            except TranscriptDamaged as damage:
                if not isinstance(damage.__cause__, ObjectNotFound):
                    raise
                error = NOT_KNOWN
        if call.kind == "shell_call":
            return native_output(call.call_id, commands, error, call.max_output_length)
        return function_output(call.call_id, commands, error)


def _digest(previous: str, items: Sequence[Item]) -> str:
    canonical = json.dumps([previous, items], sort_keys=True, separators=(",", ":"), default=dict)
    return hashlib.sha256(canonical.encode()).hexdigest()
