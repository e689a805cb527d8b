"""`model.call`: one step of the conversation, kept exactly once."""

import asyncio
import time
from collections.abc import Sequence
from datetime import UTC, datetime

from temporalio import activity

from activities.asking import Asking
from activities.compacted import Compactions, Past
from activities.errors import ModelError, TranscriptDamaged
from activities.functions import FunctionBook
from activities.heartbeat import beating
from activities.items import render
from activities.mcp_notes import with_notes
from activities.mcp_pool import McpPool
from activities.offered_tools import OfferedTools
from activities.ports.model import Item, ModelInput
from activities.pricing import ModelUnpriced
from activities.providers import Providers
from activities.transcript import Segment, Transcript, request_digest, unanswered
from activities.unanswered import guessed, tokens_of
from hibernaut.contracts import MODEL_CALL, ModelReply, ModelRequest, StoreKeys, plain
from hibernaut.models import ToolCall, Usage

TEXT_HEAD = 8_000
"""Characters of the answer that go into the history."""
COMMAND_HEAD = 2_000
"""Characters of one command that go into the history."""
CALL_HEAD = 8_000
"""Characters of all commands of one call that go into the history."""
LIMITED = 1
"""Requests that may have been paid for nothing, after which a call whose cost is limited is given up."""
REPLY_HEAD = 64_000
"""Characters of all commands of one reply that go into the history."""


class ModelActivities:
    """Activities that call language models."""

    def __init__(self, transcript: Transcript, providers: Providers, mcp: McpPool | None = None) -> None:
        """Take the transcript to read and write, and the providers and MCP servers of this worker."""
        self._transcript = transcript
        self._mcp = mcp or McpPool()
        self._functions = FunctionBook(transcript.store)
        self._compactions = Compactions(transcript)
        self._providers = providers
        self._uncounted: set[tuple[str, str]] = set()

    @activity.defn(name=MODEL_CALL.name)
    async def call(self, request: ModelRequest) -> ModelReply:
        """Ask the model, and keep its reply as a segment; a retry that finds the segment returns it.

        Raises:
            ModelUnavailable: worth a retry; carries the provider's retry-after.
            ModelRejected: refused for good, again and again not to be used, or of a provider unknown to this worker.
            ModelPerhapsPaid: given up, because the cost is limited and was perhaps paid in vain, or by request.
            ModelUnpriced: money is limited, and the worker knows no price of the model.
            McpRejected: the spec names an MCP server that this worker does not know.
            ContextOverflow: the conversation is too long.
            TranscriptConflict: another request has been answered under this step and ordinal.
            TranscriptDamaged: the conversation cannot be read, or a tool call was left unanswered.

        The details of a failure are a `PerhapsPaid`.
        """

        def costed(usage: Usage) -> Usage:
            return self._providers.costed(request.provider, request.model, usage)

        async with beating() as pulse:
            asking = Asking(pulse, LIMITED if request.limited else None, costed)
            try:
                return await self._call(request, asking)
            except BaseException as error:
                final = asking.failed(error)
                if final is error:
                    raise
                raise final from None

    async def _call(self, request: ModelRequest, asking: Asking) -> ModelReply:
        digest = request_digest(request)
        key = StoreKeys.segment(request.agent_uid, request.branch, request.step, request.ordinal)
        window = self._providers.window(request.provider, request.model)
        functions = await self._functions.functions(request.functions_ref)
        kept, past, new_items = await asyncio.gather(
            self._transcript.find(key, digest),
            self._compactions.past(request.transcript_ref, request.compaction_ref),
            render(request.new_items, self._transcript.store, functions),
        )
        if kept is not None:
            return to_reply(
                kept,
                replayed=True,
                compact=window.near(_usage(kept)),
                estimated=asking.estimate(_usage(kept), found=True),
            )
        sent, typical = expected(past, new_items)
        asking.expect(sent, typical)
        if request.priced and self._providers.model(request.provider, request.model).price is None:
            raise ModelUnpriced(request.provider, request.model)
        adapter = self._providers.adapter(request.provider)
        offered = await self._mcp.offered(request.mcp)
        new_items = with_notes(past.items, new_items, offered)
        items = conversation(past, new_items)
        began = time.monotonic()
        asked = ModelInput(
            model=request.model,
            items=items,
            idempotency_key=digest,
            tools=OfferedTools(request.tools, functions, offered.tools),
            fresh_call_ids=past.compacted is not None,
        )
        asking.begin()
        try:
            output = await adapter.call(asked, asking.hear)
        except ModelError as error:
            asking.refused(error)
            raise
        unreported = Usage()
        if not output.usage.tokens:
            unreported = asking.costed(guessed(sent, tokens_of(output.items)))
            self._note_uncounted(request)
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
            usage=asking.costed(output.usage),
            unreported=unreported,
            provider=request.provider,
            model=request.model,
            response_id=output.response_id,
            created_at=datetime.now(UTC),
            duration_ms=round((time.monotonic() - began) * 1000),
        )
        segment, lost = await self._transcript.keep(segment)
        return to_reply(
            segment,
            replayed=lost,
            compact=window.near(_usage(segment)),
            estimated=asking.estimate(_usage(segment), found=False),
        )

    def _note_uncounted(self, request: ModelRequest) -> None:
        model = (request.provider, request.model)
        if model not in self._uncounted:
            self._uncounted.add(model)
            activity.logger.warning(
                "Model provider %r tells no usage of model %r: what its replies cost is an estimate.", *model
            )


def conversation(past: Past, new_items: Sequence[Item]) -> list[Item]:
    """Everything said so far, or what a compaction put in its place, and what is new.

    Raises:
        TranscriptDamaged: a tool call of the last reply is not answered by what is new, which every provider refuses.
    """
    open_calls = unanswered(past.last, new_items) if past.last is not None else []
    if past.last is not None and open_calls:
        ids = ", ".join(open_calls)
        msg = f"Tool calls {ids} of segment {past.last.key!r} are not answered by the new items."
        raise TranscriptDamaged(msg)
    said = past.items
    if not said and not new_items:
        raise TranscriptDamaged("The conversation is empty: there is nothing to ask the model.")
    return [*said, *new_items]


def expected(past: Past, new_items: Sequence[Item]) -> tuple[int, int]:
    """What a call may cost in tokens: of input, and of output when nothing is known of the answer."""
    last = past.last
    shortened = past.compacted is not None and not past.segments
    if last is None or shortened or not last.usage.tokens:
        return tokens_of([*past.items, *new_items]), last.usage.output_tokens if last is not None else 0
    return last.usage.tokens + tokens_of(new_items), last.usage.output_tokens


def _usage(segment: Segment) -> Usage:
    return segment.usage if segment.usage.tokens else segment.unreported


def to_reply(segment: Segment, *, replayed: bool, compact: bool = False, estimated: Usage | None = None) -> ModelReply:
    """What of a segment goes into the history."""
    left = REPLY_HEAD
    calls: list[ToolCall] = []
    for call in segment.tool_calls:
        cut = cut_for_history(call, min(CALL_HEAD, left))
        size = plain.size_of(cut.arguments) if cut.arguments is not None else 0
        if size > left:
            told = "not run: the arguments of this reply's calls are too much together; ask again for this one alone"
            cut, size = cut.model_copy(update={"arguments": None, "error": told}), 0
        left -= sum(len(command) for command in cut.commands) + size
        calls.append(cut)
    return ModelReply(
        segment_ref=segment.key,
        tool_calls=tuple(calls),
        text_head=segment.text[:TEXT_HEAD],
        text_truncated=len(segment.text) > TEXT_HEAD,
        refusal=segment.refusal,
        usage=segment.usage,
        estimated=(estimated or Usage()) + segment.unreported,
        unreported=segment.unreported,
        duration_ms=segment.duration_ms,
        replayed=replayed,
        compact=compact,
    )


def cut_for_history(call: ToolCall, room: int = CALL_HEAD) -> ToolCall:
    """The call with its commands cut to their heads where they would take too much of the history."""
    each = COMMAND_HEAD
    if sum(min(len(command), each) for command in call.commands) > room:
        each = min(each, room // len(call.commands))
    if all(len(command) <= each for command in call.commands):
        return call
    return call.model_copy(update={"commands": tuple(command[:each] for command in call.commands), "cut": True})
