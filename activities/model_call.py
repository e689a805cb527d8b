"""`model.call`: one step of the conversation, kept exactly once."""

import asyncio
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from temporalio import activity

from activities.errors import TranscriptDamaged
from activities.heartbeat import beating
from activities.items import render
from activities.ports.model import Item, ModelInput
from activities.providers import Providers
from activities.transcript import Segment, Transcript, request_digest, unanswered
from hibernaut.contracts import MODEL_CALL, ModelReply, ModelRequest, StoreKeys
from hibernaut.models import ToolCall

TEXT_HEAD = 8_000
"""Characters of the answer that go into the history."""
COMMAND_HEAD = 2_000
"""Characters of one command that go into the history."""
CALL_HEAD = 8_000
"""Characters of all commands of one call that go into the history."""
REPLY_HEAD = 64_000
"""Characters of all commands of one reply that go into the history."""
PREVIEW = 500
"""Characters of the newest text in the heartbeat details."""


class ModelActivities:
    """Activities that call language models."""

    def __init__(self, transcript: Transcript, providers: Providers) -> None:
        """Take the transcript to read and write, and the providers of this worker."""
        self._transcript = transcript
        self._providers = providers

    @activity.defn(name=MODEL_CALL.name)
    async def call(self, request: ModelRequest) -> ModelReply:
        """Ask the model, and keep its reply as a segment; a retry that finds the segment returns it.

        Raises:
            ModelUnavailable: worth a retry; carries the provider's retry-after.
            ModelRejected: refused for good, or the provider is not known to this worker.
            ContextOverflow: the conversation is too long.
            TranscriptConflict: another request has been answered under this step and ordinal.
            TranscriptDamaged: the conversation cannot be read, or a tool call was left unanswered.
        """
        newest = ""
        async with beating() as pulse:

            def progress(piece: str) -> None:
                nonlocal newest
                newest = (newest + piece)[-PREVIEW:]
                pulse.say(newest)

            return await self._call(request, progress)

    async def _call(self, request: ModelRequest, progress: Callable[[str], None]) -> ModelReply:
        digest = request_digest(request)
        key = StoreKeys.segment(request.agent_uid, request.branch, request.step, request.ordinal)
        kept, history, new_items = await asyncio.gather(
            self._transcript.find(key, digest),
            self._transcript.segments(request.transcript_ref),
            render(request.new_items, self._transcript.store),
        )
        if kept is not None:
            return to_reply(kept, replayed=True)
        adapter = self._providers.adapter(request.provider)
        items = conversation(history, new_items)
        began = time.monotonic()
        output = await adapter.call(ModelInput(model=request.model, items=items, idempotency_key=digest), progress)
        segment = Segment(
            agent_uid=request.agent_uid,
            branch=request.branch,
            step=request.step,
            ordinal=request.ordinal,
            previous=request.transcript_ref,
            request_digest=digest,
            new_items=tuple(dict(item) for item in new_items),
            reply_items=tuple(dict(item) for item in output.items),
            text=output.text,
            refusal=output.refusal,
            tool_calls=tuple(output.tool_calls),
            usage=output.usage,
            provider=request.provider,
            model=request.model,
            response_id=output.response_id,
            created_at=datetime.now(UTC),
            duration_ms=round((time.monotonic() - began) * 1000),
        )
        segment, lost = await self._transcript.keep(segment)
        return to_reply(segment, replayed=lost)


def conversation(history: Sequence[Segment], new_items: Sequence[Item]) -> list[Item]:
    """Everything said so far and what is new.

    Raises:
        TranscriptDamaged: a tool call of the last reply is not answered by what is new, which every provider refuses.
    """
    open_calls = unanswered(history[-1], new_items) if history else []
    if open_calls:
        ids = ", ".join(open_calls)
        msg = f"Tool calls {ids} of segment {history[-1].key!r} are not answered by the new items."
        raise TranscriptDamaged(msg)
    said = [item for segment in history for item in (*segment.new_items, *segment.reply_items)]
    if not said and not new_items:
        raise TranscriptDamaged("The conversation is empty: there is nothing to ask the model.")
    return [*said, *new_items]


def to_reply(segment: Segment, *, replayed: bool) -> ModelReply:
    """What of a segment goes into the history."""
    left = REPLY_HEAD
    calls: list[ToolCall] = []
    for call in segment.tool_calls:
        cut = cut_for_history(call, min(CALL_HEAD, left))
        left -= sum(len(command) for command in cut.commands)
        calls.append(cut)
    return ModelReply(
        segment_ref=segment.key,
        tool_calls=tuple(calls),
        text_head=segment.text[:TEXT_HEAD],
        text_truncated=len(segment.text) > TEXT_HEAD,
        refusal=segment.refusal,
        usage=segment.usage,
        duration_ms=segment.duration_ms,
        replayed=replayed,
    )


def cut_for_history(call: ToolCall, room: int = CALL_HEAD) -> ToolCall:
    """The call with its commands cut to their heads where they would take too much of the history."""
    each = COMMAND_HEAD
    if sum(min(len(command), each) for command in call.commands) > room:
        each = min(each, room // len(call.commands))
    if all(len(command) <= each for command in call.commands):
        return call
    return call.model_copy(update={"commands": tuple(command[:each] for command in call.commands), "cut": True})
