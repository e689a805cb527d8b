"""The Responses wire, with the native `shell` tool: we run its commands (environment `local`)."""

from collections.abc import Callable, Sequence
from typing import Any, cast

import openai
from openai.types.responses import ResponseInputParam

from activities.adapters.openai_client import (
    CUT_OFF,
    FILTERED,
    Endpoint,
    Json,
    as_json,
    classified,
    count,
    drain,
    objects,
)
from activities.adapters.openai_errors import Faults
from activities.adapters.tool_calls import CallIds, check_count, clean, declared, tool_call
from activities.ports.model import Item, ModelInput, ModelOutput, ToolSet
from hibernaut.models import ToolCall, Usage

_SHELL_TOOL: Any = {"type": "shell", "environment": {"type": "local"}}

# What the API takes back; what else it sends is for the reader only, and refused as input.
_KEPT_FIELDS: dict[str, frozenset[str]] = {
    "message": frozenset({"id", "type", "role", "content", "status", "phase"}),
    "shell_call": frozenset({"id", "type", "call_id", "action", "environment", "status"}),
    "function_call": frozenset({"id", "type", "call_id", "name", "arguments", "status"}),
    "reasoning": frozenset({"id", "type", "summary", "content", "encrypted_content"}),
}
_CALLS = ("shell_call", "function_call")
_NOT_OFFERED = frozenset(
    {"custom_tool_call", "local_shell_call", "apply_patch_call", "computer_call", "mcp_approval_request"}
)
_STALE_REASONING = ("invalid_encrypted_content", "without its required")


class ResponsesAdapter:
    """A ModelAdapter for any server that speaks the Responses API."""

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
        reasoning = self._endpoint.encrypted_reasoning
        async with classified(self._faults):
            try:
                reader = await self._stream(request, progress, reasoning=reasoning)
            except openai.BadRequestError as error:
                # Encrypted reasoning is bound to a key and a model: after a change of either it is refused.
                if not reasoning or not any(sign in f"{error.code} {error.message}" for sign in _STALE_REASONING):
                    raise
                reader = await self._stream(request, progress, reasoning=False)
            return reader.output(CallIds(request.items, request.idempotency_key, fresh=request.fresh_call_ids))

    async def close(self) -> None:
        """Release connections."""
        await self._client.close()

    async def _stream(
        self, request: ModelInput, progress: Callable[[str], None], *, reasoning: bool
    ) -> "ResponsesReader":
        reader = ResponsesReader(self._faults, progress, request.tools)
        tools: Any = [*([_SHELL_TOOL] if request.shell else []), *declared(request.tools, flat=True)]
        stream = await self._client.responses.create(
            model=request.model,
            input=cast("ResponseInputParam", outgoing(request.items, reasoning=reasoning)),
            tools=tools or openai.omit,
            store=False,
            stream=True,
            include=["reasoning.encrypted_content"] if self._endpoint.encrypted_reasoning else openai.omit,
            extra_headers={"Idempotency-Key": request.idempotency_key},
            extra_body=dict(self._endpoint.extra_body) or None,
        )
        async with stream:
            async for event in stream:
                reader.feed(as_json(event))
                if reader.finished:
                    break
            await drain(stream)
        return reader


class ResponsesReader:
    """Collects the events of one streamed response. Events are told apart by `type`, never by class."""

    def __init__(self, faults: Faults, progress: Callable[[str], None], offered: ToolSet | None = None) -> None:
        """Prepare for one stream; `offered`: the tools beside the shell."""
        self._offered = offered
        self._faults = faults
        self._progress = progress
        self._items: dict[int, Json] = {}
        self._response: Json | None = None

    @property
    def finished(self) -> bool:
        """Whether the last event was seen."""
        return self._response is not None

    def feed(self, event: Json) -> None:
        """Take the next event.

        Raises:
            ModelError: the event tells of a failure.
        """
        match event.get("type"):
            case "response.output_text.delta" | "response.refusal.delta" | "response.shell_call_command.delta":
                self._progress(str(event.get("delta", "")))
            case "response.shell_call_command.added":
                self._progress(f"\n$ {event.get('command') or ''}")
            case "response.output_item.done":
                self._items[int(event["output_index"])] = dict(event["item"])
            case "response.completed" | "response.incomplete":
                self._response = dict(event["response"])
            case "response.failed":
                told = as_json(as_json(event.get("response")).get("error"))
                raise self._faults.told(told.get("code"), str(told.get("message", "the response failed")))
            case "error":
                told = as_json(event.get("error")) or event
                raise self._faults.told(told.get("code"), str(told.get("message", "the stream failed")))
            case _:
                pass

    def output(self, call_ids: CallIds) -> ModelOutput:
        """The reply.

        Raises:
            ModelUnavailable: the stream ended before the response did.
            ReplyUnusable: the reply asks for too many tool calls, or for a tool that was not offered.
        """
        if self._response is None:
            raise self._faults.unavailable("the stream ended before the response was complete.", perhaps_paid=True)
        # The items that were streamed one by one are whole; those of the last event may lack reasoning content.
        found = {**dict(enumerate(objects(self._response.get("output")))), **self._items}
        usage = _tokens(self._response)
        check_count(sum(item.get("type") in _CALLS for item in found.values()), usage)
        for kind in {str(item.get("type")) for item in found.values()} & _NOT_OFFERED:
            raise self._faults.unusable(f"the model used a tool it was not offered ({kind}).", usage)
        items: list[Item] = []
        calls: list[ToolCall] = []
        for _, raw in sorted(found.items()):
            item, call = self._item(raw, call_ids)
            items.append(item)
            if call is not None:
                calls.append(call)
        return self._assemble(items, calls, self._response)

    def _item(self, raw: Json, call_ids: CallIds) -> tuple[Json, ToolCall | None]:
        kind = str(raw.get("type"))
        kept = _KEPT_FIELDS.get(kind)
        item = {name: value for name, value in raw.items() if kept is None or name in kept}
        if kind in _CALLS:
            item["call_id"] = call_ids.take(raw.get("call_id"))
            call = tool_call(item, self._offered)
            return clean(item), call
        if kind == "message":
            item["content"] = [_part(part) for part in objects(item.get("content"))]
            item.setdefault("status", "completed")
        return clean(item), None

    def _assemble(self, items: list[Item], calls: list[ToolCall], response: Json) -> ModelOutput:
        messages = [item for item in items if item.get("type") == "message"]
        final = [item for item in messages if item.get("phase") == "final_answer"] or messages
        parts = [[*objects(item.get("content"))] for item in final]
        texts = ["".join(str(part.get("text") or part.get("refusal") or "") for part in group) for group in parts]
        text = "\n\n".join(text for text in texts if text)
        refusal = any(part.get("type") == "refusal" for group in parts for part in group)
        if response.get("status") == "incomplete":
            filtered = as_json(response.get("incomplete_details")).get("reason") == "content_filter"
            refusal = refusal or filtered
            text = f"{text}\n\n{FILTERED if filtered else CUT_OFF}".strip()
        return ModelOutput(
            items=items,
            tool_calls=calls,
            text=text,
            refusal=refusal,
            usage=_tokens(response),
            response_id=clean(str(response["id"])) if response.get("id") else None,
        )


def _tokens(response: Json) -> Usage:
    usage = as_json(response.get("usage"))
    return Usage(
        input_tokens=count(usage.get("input_tokens")),
        output_tokens=count(usage.get("output_tokens")),
        total_tokens=count(usage.get("total_tokens")),
        cached_input_tokens=count(as_json(usage.get("input_tokens_details")).get("cached_tokens")),
    )


def _part(part: Json) -> Json:
    if part.get("type") == "refusal":
        return {"type": "refusal", "refusal": str(part.get("refusal") or "")}
    return {"type": "output_text", "text": str(part.get("text") or ""), "annotations": part.get("annotations") or []}


def outgoing(items: Sequence[Item], *, reasoning: bool) -> list[Item]:
    """The conversation as the API takes it.

    Without `reasoning`, reasoning items are left out, and with them the ids that tie other items to them.
    """
    if reasoning:
        told = [item for item in items if item.get("type") != "reasoning" or item.get("encrypted_content")]
        return [item if item.get("id") else _untied(item) for item in told]
    return [_untied(item) for item in items if item.get("type") != "reasoning"]


def _untied(item: Item) -> Item:
    if item.get("type") == "message" and item.get("role") == "assistant":
        parts = objects(item.get("content"))
        text = "".join(str(part.get("text") or part.get("refusal") or "") for part in parts)
        untied: Json = {"type": "message", "role": "assistant", "content": text}
        return {**untied, "phase": item["phase"]} if item.get("phase") else untied
    if item.get("type") in _CALLS:
        return {name: value for name, value in item.items() if name != "id"}
    return item
