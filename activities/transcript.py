"""The conversation, by reference: immutable segments in the object store, each naming the one before it.

The format is described field by field in `docs/transcript-format.md`.
"""

import asyncio
import hashlib
import json
from collections import OrderedDict
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ValidationError

from activities.errors import ObjectExists, ObjectNotFound, TranscriptConflict, TranscriptDamaged
from activities.ports.model import Item
from activities.ports.store import ObjectStore
from hibernaut.contracts import StoreKeys
from hibernaut.models import ToolCall, Usage
from hibernaut.models.base import Open

SEGMENT_FORMAT: Literal["hibernaut-transcript/1"] = "hibernaut-transcript/1"
_CACHE_BYTES = 256 * 1024 * 1024
_PARALLEL = 16


class Segment(Open):
    """One model call: what was new to the model, and its reply."""

    format: Literal["hibernaut-transcript/1"] = SEGMENT_FORMAT
    agent_uid: str
    branch: int
    step: int
    ordinal: int
    previous: str | None
    """Key of the segment before this one; none for the first."""
    request_digest: str
    """SHA-256 of the request, see `request_digest`."""
    new_items: tuple[dict[str, Any], ...]
    """Responses items given to the model since the previous reply."""
    reply_items: tuple[dict[str, Any], ...]
    """Responses items of the reply."""
    text: str
    """The answer's text."""
    refusal: bool
    tool_calls: tuple[ToolCall, ...]
    """Whole: no command is cut."""
    usage: Usage
    unreported: Usage = Usage()
    """What the reply may have cost, when the provider told no usage."""
    provider: str
    model: str
    response_id: str | None
    created_at: datetime
    duration_ms: int

    @property
    def key(self) -> str:
        """Where it is kept."""
        return StoreKeys.segment(self.agent_uid, self.branch, self.step, self.ordinal)


def request_digest(request: BaseModel) -> str:
    """SHA-256 of a request in canonical JSON.

    Fields at their defaults are left out: a release that adds a field still recognizes the requests of the last. So is
    `limited`, which no reply depends on, and of which older releases know nothing.
    """
    plain = request.model_dump(mode="json", exclude_defaults=True, exclude={"limited"})
    canonical = json.dumps(plain, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(canonical.encode()).hexdigest()


class Transcript:
    """Reads and writes segments; keeps those it has seen, as they never change."""

    def __init__(self, store: ObjectStore, *, cache_bytes: int = _CACHE_BYTES) -> None:
        """Prepare.

        Args:
            store: where the segments are.
            cache_bytes: how much of them is kept in memory, counted as JSON.
        """
        self.store = store
        self._limit = cache_bytes
        self._cached: OrderedDict[str, tuple[Segment, int]] = OrderedDict()
        self._size = 0

    async def segments(self, ref: str | None, *, until: str | None = None) -> list[Segment]:
        """The segments that lead to `ref`, oldest first, itself included; of them those after `until`, if it is one.

        Raises:
            TranscriptDamaged: a segment is missing or cannot be read.
        """
        chain: list[Segment] = []
        seen: set[str] = set()
        ahead: dict[str, Segment] = {}
        missed = 0
        while ref is not None and ref != until:
            if ref in seen:
                raise TranscriptDamaged(f"The transcript is damaged: segment {ref!r} leads back to itself.")
            seen.add(ref)
            segment = ahead.pop(ref, None) or self._recall(ref)
            if segment is None:
                missed += 1
                if missed > 1:
                    # One unknown segment: another worker wrote it. More: this worker has never seen the agent.
                    ahead |= await self._prefetch(ref, until)
                segment = ahead.pop(ref, None) or await self.segment(ref)
            chain.append(segment)
            ref = segment.previous
        chain.reverse()
        return chain

    async def items(self, ref: str | None) -> list[Item]:
        """The whole conversation up to and including the reply in `ref`, as Responses items."""
        return [item for segment in await self.segments(ref) for item in (*segment.new_items, *segment.reply_items)]

    async def segment(self, ref: str) -> Segment:
        """One segment.

        Raises:
            TranscriptDamaged: it is missing or cannot be read.
        """
        segment = self._recall(ref)
        if segment is not None:
            return segment
        try:
            data = await self.store.get(ref)
        except ObjectNotFound as error:
            raise TranscriptDamaged(f"The transcript is damaged: segment {ref!r} is missing from the store.") from error
        segment = parse(ref, data)
        self._remember(segment, len(data))
        return segment

    async def find(self, key: str, digest: str) -> Segment | None:
        """The segment under a key, when this very request has been answered before.

        Raises:
            TranscriptConflict: another request has been answered under this key.
        """
        try:
            data = await self.store.get(key)
        except ObjectNotFound:
            return None
        segment = parse(key, data)
        if segment.request_digest != digest:
            msg = (
                f"Segment {key!r} keeps the reply to another request (digest {segment.request_digest[:12]}, not "
                f"{digest[:12]}). Each model call needs an ordinal of its own."
            )
            raise TranscriptConflict(msg)
        self._remember(segment, len(data))
        return segment

    async def keep(self, segment: Segment) -> tuple[Segment, bool]:
        """Write a segment unless its key is taken.

        Returns:
            The segment that is kept, and whether it is another's: whoever writes first wins.

        Raises:
            TranscriptConflict: the key is taken by another request's reply.
        """
        data = segment.model_dump_json().encode()
        try:
            await self.store.put(segment.key, data, if_none_match=True)
        except ObjectExists:
            winner = await self.find(segment.key, segment.request_digest)
            if winner is None:
                msg = f"Segment {segment.key!r} was there and is gone; it must never be deleted."
                raise TranscriptDamaged(msg) from None
            return winner, True
        self._remember(segment, len(data))
        return segment, False

    async def answer_text(self, ref: str) -> str:
        """The whole text of the answer in a segment."""
        return (await self.segment(ref)).text

    async def commands_of(self, segment_ref: str, call_id: str) -> tuple[str, ...]:
        """The whole commands of a tool call.

        Raises:
            TranscriptDamaged: the segment is unreadable or has no such call.
        """
        for call in (await self.segment(segment_ref)).tool_calls:
            if call.call_id == call_id:
                return call.commands
        raise TranscriptDamaged(f"Segment {segment_ref!r} has no tool call {call_id!r}.")

    async def _prefetch(self, ref: str, until: str | None) -> dict[str, Segment]:
        """Read the segments of a branch up to `ref` side by side; the walk complains of what cannot be read."""
        folder = ref.rsplit("/", 1)[0] + "/"
        after = until if until is not None and until.startswith(folder) else ""
        listed = self.store.list(folder)
        wanted = [info.key async for info in listed if after < info.key <= ref and self._recall(info.key) is None]
        gate = asyncio.Semaphore(_PARALLEL)

        async def read(key: str) -> Segment | None:
            async with gate:
                try:
                    return await self.segment(key)
                except TranscriptDamaged:
                    return None

        found = await asyncio.gather(*(read(key) for key in wanted))
        return {segment.key: segment for segment in found if segment is not None}

    def _recall(self, key: str) -> Segment | None:
        entry = self._cached.get(key)
        if entry is None:
            return None
        self._cached.move_to_end(key)
        return entry[0]

    def _remember(self, segment: Segment, size: int) -> None:
        old = self._cached.pop(segment.key, None)
        self._size += size - (old[1] if old else 0)
        self._cached[segment.key] = (segment, size)
        while self._size > self._limit and self._cached:
            _, (_, dropped) = self._cached.popitem(last=False)
            self._size -= dropped


def parse(key: str, data: bytes) -> Segment:
    """Read a segment and check that it lies where it belongs.

    Raises:
        TranscriptDamaged: it does not, or is no segment.
    """
    try:
        segment = Segment.model_validate_json(data)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        field = ".".join(str(step) for step in first["loc"]) or "JSON"
        raise TranscriptDamaged(f"Transcript segment {key!r} is damaged ({field}: {first['msg']}).") from error
    if segment.key != key:
        raise TranscriptDamaged(f"Transcript segment {key!r} is damaged: it says that it is {segment.key!r}.")
    return segment


def unanswered(segment: Segment, new_items: Sequence[Item]) -> list[str]:
    """Ids of the segment's tool calls that `new_items` do not answer."""
    answered = {item.get("call_id") for item in new_items if str(item.get("type", "")).endswith("_output")}
    return [call.call_id for call in segment.tool_calls if call.call_id not in answered]
