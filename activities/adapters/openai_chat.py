"""The Chat Completions wire, for every provider without the native shell: a function tool of the same arguments."""

import hashlib
from collections.abc import Callable
from typing import Any, cast

import openai
from openai.types.chat import ChatCompletionMessageParam

from activities.adapters.chat_messages import messages
from activities.adapters.openai_client import CUT_OFF, FILTERED, Endpoint, Json, as_json, classified, count, objects
from activities.adapters.openai_errors import Faults
from activities.adapters.tool_calls import FUNCTION_TOOL, CallIds, check_count, clean, declared, tool_call
from activities.ports.model import Item, ModelInput, ModelOutput, ToolSet
from hibernaut.models import ToolCall, Usage


class ChatAdapter:
    """A ModelAdapter for any server that speaks Chat Completions."""

    def __init__(self, endpoint: Endpoint) -> None:
        """Prepare; nothing is sent before the first call."""
        self._endpoint = endpoint
        self._client = endpoint.client()
        self._faults = endpoint.faults()

    async def call(self, request: ModelInput, progress: Callable[[str], None]) -> ModelOutput:
        """Call the model once.

        Args:
            request: model, conversation and idempotency key.
            progress: receives each new piece of text as it streams.

        Raises:
            ModelUnavailable: rate limit, 5xx, timeout, cut or malformed stream.
            ModelRejected: bad request, authentication, unknown model.
            ContextOverflow: the conversation is longer than the model's window.
        """
        translated = messages(request.items, self._endpoint.developer_role)
        reader = ChatReader(self._faults, progress, request.tools)
        tools: Any = [*([FUNCTION_TOOL] if request.shell else []), *declared(request.tools)]
        async with classified(self._faults):
            stream = await self._client.chat.completions.create(
                model=request.model,
                messages=cast("list[ChatCompletionMessageParam]", translated),
                tools=tools or openai.omit,
                stream=True,
                stream_options={"include_usage": True},
                extra_headers={"Idempotency-Key": request.idempotency_key},
                extra_body=dict(self._endpoint.extra_body) or None,
            )
            async with stream:
                async for chunk in stream:
                    reader.feed(as_json(chunk))
            return reader.output(CallIds(request.items, request.idempotency_key, fresh=request.fresh_call_ids))

    async def close(self) -> None:
        """Release connections."""
        await self._client.close()


class ChatReader:
    """Collects the chunks of one streamed completion."""

    def __init__(self, faults: Faults, progress: Callable[[str], None], offered: ToolSet | None = None) -> None:
        """Prepare for one stream; `offered`: the tools beside the shell."""
        self._offered = offered
        self._faults = faults
        self._progress = progress
        self._id: str | None = None
        self._text: list[str] = []
        self._refusal: list[str] = []
        self._calls: dict[int, Json] = {}
        self._finish: str | None = None
        self._usage: Json = {}

    def feed(self, chunk: Json) -> None:
        """Take the next chunk."""
        if not self._id and chunk.get("id"):
            self._id = clean(str(chunk["id"]))
        if isinstance(chunk.get("usage"), dict):
            self._usage = chunk["usage"]
        for choice in objects(chunk.get("choices"))[:1]:
            delta = as_json(choice.get("delta"))
            for field, collected in (("content", self._text), ("refusal", self._refusal)):
                piece = delta.get(field)
                if isinstance(piece, str) and piece:
                    collected.append(piece)
                    self._progress(piece)
            for call in objects(delta.get("tool_calls")):
                self._add_call(call)
            self._finish = choice.get("finish_reason") or self._finish

    def _add_call(self, piece: Json) -> None:
        # Some providers leave the index out: a piece with an id then begins a call, one without goes on with the last.
        index = piece.get("index")
        if not isinstance(index, int):
            index = len(self._calls) if piece.get("id") or not self._calls else max(self._calls)
        call = self._calls.setdefault(index, {"id": None, "name": "", "arguments": []})
        function = as_json(piece.get("function"))
        call["id"] = call["id"] or piece.get("id")
        call["name"] = call["name"] or function.get("name") or ""
        call["arguments"].append(str(function.get("arguments") or ""))

    def output(self, call_ids: CallIds) -> ModelOutput:
        """The reply.

        Raises:
            ModelUnavailable: the stream ended before the completion did.
            ReplyUnusable: the reply asks for too many tool calls.
        """
        if self._finish is None:
            raise self._faults.unavailable("the stream ended before the completion was complete.", perhaps_paid=True)
        check_count(len(self._calls), self._tokens())
        text, refusal = clean("".join(self._text)), clean("".join(self._refusal))
        items: list[Item] = []
        if text or refusal:
            items.append(self._message(text, refusal))
        calls: list[ToolCall] = []
        for _, raw in sorted(self._calls.items()):
            item: Json = {
                "type": "function_call",
                "call_id": call_ids.take(raw["id"]),
                "name": raw["name"],
                "arguments": "".join(raw["arguments"]),
                "status": "completed",
            }
            call = tool_call(item, self._offered)
            items.append(clean(item))
            if call is not None:
                calls.append(self._noted(call))
        return ModelOutput(
            items=items,
            tool_calls=calls,
            text=self._shown(text, refusal),
            refusal=bool(refusal) or self._finish == "content_filter",
            usage=self._tokens(),
            response_id=self._id,
        )

    def _message(self, text: str, refusal: str) -> Json:
        digest = hashlib.sha256(f"{self._id}\0{text}\0{refusal}".encode()).hexdigest()
        parts: list[Json] = []
        if text:
            parts.append({"type": "output_text", "text": text, "annotations": []})
        if refusal:
            parts.append({"type": "refusal", "refusal": refusal})
        # The id is ours: Chat has none, and the Responses format wants one that begins so.
        ident = f"msg_{digest[:32]}"
        return {"type": "message", "id": ident, "role": "assistant", "status": "completed", "content": parts}

    def _noted(self, call: ToolCall) -> ToolCall:
        if call.error is None or self._finish != "length":
            return call
        note = "The call was cut off at the provider's output limit. Send it again, shorter. "
        return call.model_copy(update={"error": note + call.error})

    def _shown(self, text: str, refusal: str) -> str:
        shown = f"{text}{refusal}"
        if self._finish == "length":
            return f"{shown}\n\n{CUT_OFF}".strip()
        if self._finish == "content_filter":
            return f"{shown}\n\n{FILTERED}".strip()
        return shown

    def _tokens(self) -> Usage:
        asked, spent = count(self._usage.get("prompt_tokens")), count(self._usage.get("completion_tokens"))
        return Usage(
            input_tokens=asked,
            output_tokens=spent,
            total_tokens=count(self._usage.get("total_tokens")) or asked + spent,
            cached_input_tokens=count(as_json(self._usage.get("prompt_tokens_details")).get("cached_tokens")),
        )
