"""What the suites of the model adapters share: an adapter, and the scripted model it talks to."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Literal

import pytest
from pydantic import SecretStr

from activities.adapters.openai_chat import ChatAdapter
from activities.adapters.openai_client import Endpoint
from activities.adapters.openai_responses import ResponsesAdapter
from activities.errors import ModelError, ModelUnavailable
from activities.items import function_output, message, native_output
from activities.ports.model import Item, ModelAdapter, ModelInput, ModelOutput
from activities.records import ExecutedCommand
from examples.scripted_model import (
    Script,
    ScriptedModel,
)
from hibernaut.models import OutcomeKind, ToolCall

Wire = Literal["responses", "chat"]
KEY = "sk-test-0123456789abcdef"
SURROGATE = "\ud83d"


@dataclass
class Talk:
    """An adapter, the scripted model it talks to, and the conversation so far."""

    adapter: ModelAdapter
    model: ScriptedModel
    wire: Wire
    items: list[Item] = field(default_factory=lambda: [message("developer", "Be brief."), message("user", "Hello")])
    heard: list[str] = field(default_factory=list[str])

    async def ask(self, *, model: str = "scripted", key: str = "step-1") -> ModelOutput:
        request = ModelInput(model=model, items=tuple(self.items), idempotency_key=key)
        output = await self.adapter.call(request, self.heard.append)
        self.items.extend(output.items)
        return output

    def answer(self, call: ToolCall, *stdout: str, error: str | None = None) -> None:
        commands = [
            ExecutedCommand(
                exec_id=f"e{at}", command=call.commands[at], kind=OutcomeKind.EXIT, exit_code=0, stdout=text
            )
            for at, text in enumerate(stdout)
        ]
        if call.kind == "shell_call":
            self.items.append(native_output(call.call_id, commands, error, call.max_output_length))
        else:
            self.items.append(function_output(call.call_id, commands, error))


def open_adapter(wire: Wire, base_url: str, **settings: object) -> ModelAdapter:
    plain = Endpoint(name="main", base_url=base_url, api_key=SecretStr(KEY), timeout_s=5.0)
    endpoint = replace(plain, **settings)
    return ChatAdapter(endpoint) if wire == "chat" else ResponsesAdapter(endpoint)


@asynccontextmanager
async def talking(wire: Wire, script: Script, **settings: object) -> AsyncGenerator[Talk]:
    async with ScriptedModel(script, api_key=KEY) as model:
        talk = Talk(open_adapter(wire, model.base_url, **settings), model, wire)
        try:
            yield talk
        finally:
            await talk.adapter.close()


async def refused(talk: Talk, expected: type[ModelError], **asked: str) -> ModelError:
    with pytest.raises(expected) as caught:
        await talk.ask(**asked)
    assert KEY not in str(caught.value)
    assert caught.value.__cause__ is None
    assert "'main'" in str(caught.value)
    return caught.value


async def unavailable(talk: Talk) -> ModelUnavailable:
    with pytest.raises(ModelUnavailable) as caught:
        await talk.ask()
    assert KEY not in str(caught.value)
    return caught.value
