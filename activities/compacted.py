"""A compaction: what takes the place of the older part of a conversation when the model is asked.

The segments it stands for stay as they are. The format is described field by field in `docs/transcript-format.md`.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from pydantic import ValidationError
from temporalio import activity

from activities.errors import ObjectExists, ObjectNotFound, TranscriptConflict, TranscriptDamaged
from activities.ports.model import Item
from activities.transcript import Segment, Transcript
from hibernaut.contracts import StoreKeys
from hibernaut.models import Usage
from hibernaut.models.base import Open

COMPACTION_FORMAT: Literal["hibernaut-compaction/1"] = "hibernaut-compaction/1"
_CACHED = 64


class Pinned(Open):
    """An item that no summary replaces."""

    why: Literal["instructions", "report", "message"]
    """`report`: a recovery report. `message`: a message of the turn that was under way."""
    item: dict[str, Any]


class Compacted(Open):
    """One compaction; it is written once, and never changed."""

    format: Literal["hibernaut-compaction/1"] = COMPACTION_FORMAT
    agent_uid: str
    branch: int
    step: int
    ordinal: int
    """Of the model call that came next."""
    previous: str | None
    """Key of the compaction before it, whose summary went into this one."""
    covers: str
    """Key of the newest segment that it stands for; the conversation goes on with the segment after that one."""
    covers_branch: int
    covers_step: int
    request_digest: str
    summary: str
    pinned: tuple[Pinned, ...]
    reports_left_out: int
    """Recovery reports that are no longer among the pinned items, since the beginning."""
    calling: bool
    """Whether the reply of the covered segment made tool calls, so that its turn went on."""
    items: tuple[dict[str, Any], ...]
    """What the model is sent in place of everything up to and including the covered segment's reply."""
    steps: int
    """Segments that the summary newly stands for."""
    tokens_before: int
    tokens_after: int
    """An estimate."""
    usage: Usage
    """Of all calls that wrote the summary."""
    estimated: Usage = Usage()
    """Of those of them of which the provider told no usage."""
    provider: str
    model: str
    created_at: datetime
    duration_ms: int

    @property
    def key(self) -> str:
        """Where it is kept."""
        return StoreKeys.compaction(self.agent_uid, self.branch, self.step, self.ordinal)


@dataclass(frozen=True, slots=True)
class Past:
    """A conversation as the model is sent it: a compaction, when there is one, and the segments after it."""

    compacted: Compacted | None
    segments: Sequence[Segment]
    last: Segment | None
    """The newest segment, which the compaction may stand for."""

    @property
    def items(self) -> list[Item]:
        """Everything said so far."""
        before = self.compacted.items if self.compacted is not None else ()
        return [*before, *(item for segment in self.segments for item in (*segment.new_items, *segment.reply_items))]


class Compactions:
    """Reads and writes compactions; keeps the newest it has seen, as they never change."""

    def __init__(self, transcript: Transcript) -> None:
        """Take the transcript that they shorten, and its store."""
        self._transcript = transcript
        self._store = transcript.store
        self._cached: OrderedDict[str, Compacted] = OrderedDict()

    async def past(self, ref: str | None, compaction_ref: str | None) -> Past:
        """The conversation up to `ref`.

        A compaction that cannot be read, or that stands for segments which do not lead to `ref` (a rewind), is passed
        over: the whole conversation is still there.

        Raises:
            TranscriptDamaged: a segment is missing or cannot be read.
        """
        compacted = await self._usable(compaction_ref)
        segments = await self._transcript.segments(ref, until=compacted.covers if compacted else None)
        if compacted is not None and (segments[0].previous if segments else ref) != compacted.covers:
            compacted = None
        if not segments and ref is not None:
            return Past(compacted, (), await self._transcript.segment(ref))
        return Past(compacted, segments, segments[-1] if segments else None)

    async def _usable(self, ref: str | None) -> Compacted | None:
        if ref is None:
            return None
        try:
            return await self.read(ref)
        except TranscriptDamaged as error:
            if activity.in_activity():
                activity.logger.warning("The conversation is sent whole: %s", error)
            return None

    async def read(self, ref: str) -> Compacted:
        """One compaction.

        Raises:
            TranscriptDamaged: it is missing or cannot be read.
        """
        if (known := self._cached.get(ref)) is not None:
            self._cached.move_to_end(ref)
            return known
        try:
            data = await self._store.get(ref)
        except ObjectNotFound as error:
            raise TranscriptDamaged(f"Compaction {ref!r} is missing from the store.") from error
        return self._remember(parse(ref, data))

    async def find(self, key: str, digest: str) -> Compacted | None:
        """The compaction under a key, when this very request has been answered before.

        Raises:
            TranscriptConflict: another request has been answered under this key.
        """
        try:
            data = await self._store.get(key)
        except ObjectNotFound:
            return None
        compacted = parse(key, data)
        if compacted.request_digest != digest:
            msg = (
                f"Compaction {key!r} answers another request (digest {compacted.request_digest[:12]}, not "
                f"{digest[:12]}). Each model call is preceded by one compaction at most."
            )
            raise TranscriptConflict(msg)
        return self._remember(compacted)

    async def keep(self, compacted: Compacted) -> tuple[Compacted, bool]:
        """Write a compaction unless its key is taken.

        Returns:
            The compaction that is kept, and whether it is another's: whoever writes first wins.

        Raises:
            TranscriptConflict: the key is taken by another request's.
        """
        try:
            await self._store.put(compacted.key, compacted.model_dump_json().encode(), if_none_match=True)
        except ObjectExists:
            winner = await self.find(compacted.key, compacted.request_digest)
            if winner is None:
                msg = f"Compaction {compacted.key!r} was there and is gone; it must never be deleted."
                raise TranscriptDamaged(msg) from None
            return winner, True
        return self._remember(compacted), False

    def _remember(self, compacted: Compacted) -> Compacted:
        self._cached[compacted.key] = compacted
        self._cached.move_to_end(compacted.key)
        while len(self._cached) > _CACHED:
            self._cached.popitem(last=False)
        return compacted


def parse(key: str, data: bytes) -> Compacted:
    """Read a compaction and check that it lies where it belongs.

    Raises:
        TranscriptDamaged: it does not, or is none.
    """
    try:
        compacted = Compacted.model_validate_json(data)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        field = ".".join(str(step) for step in first["loc"]) or "JSON"
        raise TranscriptDamaged(f"Compaction {key!r} is damaged ({field}: {first['msg']}).") from error
    if compacted.key != key:
        raise TranscriptDamaged(f"Compaction {key!r} is damaged: it says that it is {compacted.key!r}.")
    return compacted
