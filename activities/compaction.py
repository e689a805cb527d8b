"""`transcript.compact`: the older part of a conversation gives way to a summary."""

import time
from datetime import UTC, datetime
from typing import Any

from temporalio import activity

from activities.asking import Asking
from activities.compacted import Compacted, Compactions, Past
from activities.heartbeat import beating
from activities.items import message
from activities.kept_parts import Parts, Room, calling, divide
from activities.pricing import ModelUnpriced
from activities.providers import Providers
from activities.summary import SMALLEST_PIECE, Summariser, Summary
from activities.transcript import Segment, Transcript, request_digest
from activities.unanswered import weight
from activities.windows import Window
from hibernaut.contracts import TRANSCRIPT_COMPACT, CompactRequest, CompactResult, StoreKeys
from hibernaut.models import Usage

SUMMARY_HEAD = 500
"""Characters of the summary that go into the history."""
RECENT, REPORTS, MESSAGES, SUMMARY = 0.25, 0.1, 0.15, 0.15
"""Shares of the window: what is kept of the newest steps, of reports, of the turn's messages; the summary."""
HARDER = 0.4
"""How much of these shares is left when the provider has refused the conversation."""
LONGEST_SUMMARY = 40_000
SHORTEST_SUMMARY = 1_000
PIECE = 0.5
"""Share of the window that a call which summarises is shown of the conversation."""
WORTH = 0.1
"""Share of the window that a compaction must free; less is not worth the call."""
LIMITED = 3
"""Requests that may have been paid for nothing, after which a compaction whose cost is limited is given up."""
_TOLERANCE = 1.1
"""Of estimates of a length."""
_CHARACTERS, _FEWEST, _MOST = 3.0, 1.0, 8.0
"""Of a token: when no usage tells, and at least and at most whatever it tells."""


class CompactionActivities:
    """Activities that shorten conversations."""

    def __init__(self, transcript: Transcript, providers: Providers) -> None:
        """Take the transcript to read, and the providers of this worker."""
        self._compactions = Compactions(transcript)
        self._providers = providers

    @activity.defn(name=TRANSCRIPT_COMPACT.name)
    async def compact(self, request: CompactRequest) -> CompactResult:
        """Summarise the older part of a conversation; a retry that finds the summary returns it.

        Raises:
            ModelUnavailable: worth a retry, which goes on where this attempt ended.
            ModelRejected: refused for good, by the provider or by the model.
            ModelPerhapsPaid: given up, because the cost is limited and was paid in vain, or by request.
            ModelUnpriced: money is limited, and the worker knows no price of the summarising model.
            ContextOverflow: not even a small piece of the conversation fits into the summarising model's window.
            TranscriptConflict: another request has been answered under this step and ordinal.
            TranscriptDamaged: the conversation cannot be read.

        The details of a failure are a `PerhapsPaid`.
        """
        window = self._providers.window(request.provider, request.model)
        model = window.compaction_model or request.model

        def costed(usage: Usage) -> Usage:
            return self._providers.costed(request.provider, model, usage)

        async with beating() as pulse:
            asking = Asking(pulse, LIMITED if request.limited else None, costed)
            try:
                return await self._compact(request, model, asking)
            except BaseException as error:
                final = asking.failed(error)
                if final is error:
                    raise
                raise final from None

    async def _compact(self, request: CompactRequest, model: str, asking: Asking) -> CompactResult:
        began, digest = time.monotonic(), request_digest(request)
        key = StoreKeys.compaction(request.agent_uid, request.branch, request.step, request.ordinal)
        if (kept := await self._compactions.find(key, digest)) is not None:
            return _result(kept, asking.remainder(found=True), replayed=True)
        past = await self._compactions.past(request.transcript_ref, request.compaction_ref)
        scale = _Scale(past, self._providers.window(request.provider, request.model), hard=request.hard)
        parts = divide(past, scale.room) if request.hard or scale.near else None
        if parts is None or not (request.hard or scale.worth(parts)):
            return CompactResult(ref=None, tokens_before=scale.before)
        if request.priced and self._providers.model(request.provider, model).price is None:
            raise ModelUnpriced(request.provider, model)
        summary = await Summariser(self._providers.adapter(request.provider), model, digest, asking).summarise(
            past.compacted.summary if past.compacted is not None else "",
            parts.covered,
            piece=scale.piece(self._providers.window(request.provider, model)),
            limit=scale.limit,
        )
        border = parts.covered[-1]
        items = assembled(parts, summary)
        sent = weight(items) + weight(item for one in parts.recent for item in (*one.new_items, *one.reply_items))
        compacted, lost = await self._compactions.keep(
            Compacted(
                agent_uid=request.agent_uid,
                branch=request.branch,
                step=request.step,
                ordinal=request.ordinal,
                previous=past.compacted.key if past.compacted is not None else None,
                covers=border.key,
                covers_branch=border.branch,
                covers_step=border.step,
                request_digest=digest,
                summary=summary.text,
                pinned=parts.pinned,
                reports_left_out=parts.reports_left_out,
                calling=calling(border.reply_items),
                items=tuple(items),
                steps=len(parts.covered),
                tokens_before=scale.before,
                tokens_after=round(sent / scale.ratio),
                usage=summary.usage,
                estimated=summary.estimated,
                provider=request.provider,
                model=model,
                created_at=datetime.now(UTC),
                duration_ms=round((time.monotonic() - began) * 1000),
            )
        )
        in_vain = asking.remainder(found=lost) + (summary.usage + summary.estimated if lost else Usage())
        return _result(compacted, in_vain, replayed=lost)


class _Scale:
    """The sizes of one compaction: shares of the window, in characters."""

    def __init__(self, past: Past, window: Window, *, hard: bool) -> None:
        self.window = window
        last, compacted, length = past.last, past.compacted, weight(past.items)
        usage = last.usage if last is not None else Usage()
        if compacted is not None and last is not None and compacted.step > last.step:
            # Nothing has been sent since that compaction: what the call before it used tells nothing any more.
            self.before, self.ratio = compacted.tokens_after, length / max(compacted.tokens_after, 1)
        elif usage.input_tokens and last is not None:
            self.before = usage.input_tokens + usage.output_tokens
            self.ratio = (length - weight(last.reply_items)) / usage.input_tokens
        else:
            self.before, self.ratio = round(length / _CHARACTERS), _CHARACTERS
        self.ratio = min(max(self.ratio, _FEWEST), _MOST)
        self._length = round(length / self.ratio)
        # What the provider took last did fit; after a refusal, nothing more is known.
        self._tokens = min(window.tokens or self.before, self.before) if hard else window.tokens or self.before
        self._share = HARDER if hard else 1.0

    @property
    def near(self) -> bool:
        """Whether the conversation is as long as the settings allow it to be, as far as that can be told."""
        length = max(self.before, self._length) * _TOLERANCE
        return self.window.tokens is not None and length >= self.window.compact_at * self.window.tokens

    @property
    def room(self) -> Room:
        """What may be kept."""
        whole = self._tokens * self.ratio * self._share
        return Room(round(whole * RECENT), round(whole * REPORTS), round(whole * MESSAGES))

    @property
    def limit(self) -> int:
        """Characters of the summary."""
        return min(max(round(self._tokens * self.ratio * SUMMARY), SHORTEST_SUMMARY), LONGEST_SUMMARY)

    def piece(self, summarising: Window) -> int:
        """Characters of conversation that one call is shown."""
        tokens = min(self._tokens, summarising.tokens or self._tokens)
        return max(round(tokens * self.ratio * PIECE), SMALLEST_PIECE)

    def worth(self, parts: Parts) -> bool:
        """Whether the compaction frees enough."""
        goes = sum(weight(one.new_items) + weight(one.reply_items) for one in parts.covered)
        stays = weight(one.item for one in parts.pinned) + weight(parts.covered[-1].reply_items)
        return goes - stays - min(self.limit, goes // 4) >= self._tokens * self.ratio * WORTH


def assembled(parts: Parts, summary: Summary) -> list[dict[str, Any]]:
    """What the model is sent in place of the covered steps."""
    last: Segment = parts.covered[-1]
    begins = (
        "[hibernaut] The conversation came near the limit of what you can take in, and its older part was put into the "
        "summary that follows. It is your own memory of what happened, and nobody's instruction. Your computer and "
        "its files are as you left them."
    )
    ends = f"[hibernaut] The summary, which reaches to step {last.step}, ends here. What follows is as it was said."
    if parts.reports_left_out:
        ends += f" {parts.reports_left_out} older recovery reports are left out."
    memory: dict[str, Any] = {
        "type": "message",
        "role": "assistant",
        "content": [{"type": "output_text", "text": summary.text, "annotations": []}],
    }
    pinned = {
        why: [one.item for one in parts.pinned if one.why == why] for why in ("instructions", "report", "message")
    }
    return [
        *pinned["instructions"],
        message("developer", begins),
        memory,
        message("developer", ends),
        *pinned["report"],
        *pinned["message"],
        *last.reply_items,
    ]


def _result(compacted: Compacted, in_vain: Usage, *, replayed: bool) -> CompactResult:
    return CompactResult(
        ref=compacted.key,
        covers_branch=compacted.covers_branch,
        covers_step=compacted.covers_step,
        steps=compacted.steps,
        tokens_before=compacted.tokens_before,
        tokens_after=compacted.tokens_after,
        usage=compacted.usage,
        estimated=compacted.estimated + in_vain,
        summary_head=compacted.summary[:SUMMARY_HEAD],
        duration_ms=compacted.duration_ms,
        replayed=replayed,
    )
