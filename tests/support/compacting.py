"""A conversation that was written by hand, and the activities that shorten it."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from temporalio.testing import ActivityEnvironment

from activities.adapters.local_store import LocalStore
from activities.compacted import Compacted, Compactions
from activities.compaction import CompactionActivities
from activities.errors import HibernautActivityError
from activities.items import message
from activities.model_call import ModelActivities
from activities.providers import load_providers
from activities.transcript import Segment, Transcript
from examples.scripted_model import Script, ScriptedModel, respond, say
from hibernaut.contracts import CompactRequest, CompactResult, PerhapsPaid
from hibernaut.models import ToolCall, Usage

UID = "0123456789abcdef"
LONG = "so it was said " * 100


@dataclass
class Agent:
    """A conversation that was written by hand, and the activities that work on it."""

    model: ScriptedModel
    store: LocalStore
    transcript: Transcript
    activities: CompactionActivities
    calls: ModelActivities
    segments: list[Segment] = field(default_factory=list[Segment])
    details: Sequence[object] = ()

    async def said(self, *new_items: dict[str, Any], reply: dict[str, Any] | None = None) -> None:
        """Write one more step."""
        items = (reply or message("assistant", LONG),)
        called = [str(item["call_id"]) for item in items if "call_id" in item]
        segment = Segment(
            agent_uid=UID,
            branch=0,
            step=len(self.segments),
            ordinal=0,
            previous=self.segments[-1].key if self.segments else None,
            request_digest="",
            new_items=new_items or (message("user", LONG),),
            reply_items=items,
            text="",
            refusal=False,
            tool_calls=tuple(ToolCall(call_id=name, kind="function_call", commands=("ls",)) for name in called),
            usage=Usage(input_tokens=400 * (len(self.segments) + 1), output_tokens=400),
            provider="default",
            model="scripted",
            response_id=None,
            created_at=datetime.now(UTC),
            duration_ms=1,
        )
        await self.transcript.keep(segment)
        self.segments.append(segment)

    def request(self, **more: Any) -> CompactRequest:  # noqa: ANN401  # fields of the request
        fields: dict[str, Any] = {
            "agent_uid": UID,
            "branch": 0,
            "step": len(self.segments),
            "ordinal": 0,
            "transcript_ref": self.segments[-1].key,
            "provider": "default",
            "model": "scripted",
            "hard": True,
        }
        return CompactRequest(**{**fields, **more})

    async def compact(self, **more: Any) -> CompactResult:  # noqa: ANN401  # fields of the request
        """The next attempt, which finds the heartbeat details of the one before."""
        environment = ActivityEnvironment()
        environment.info = replace(environment.info, heartbeat_details=self.details)
        environment.on_heartbeat = self._note
        return await environment.run(self.activities.compact, self.request(**more))

    async def fails(self, kind: type[HibernautActivityError], **more: Any) -> PerhapsPaid:  # noqa: ANN401  # as above
        """An attempt that ends with an error; what it says that may have been paid."""
        with pytest.raises(HibernautActivityError) as failed:
            await self.compact(**more)
        assert type(failed.value) is kind, failed.value
        [paid] = failed.value.details
        return PerhapsPaid.model_validate(paid)

    def _note(self, *details: object) -> None:
        self.details = details

    async def read(self, result: CompactResult) -> Compacted:
        return await Compactions(self.transcript).read(str(result.ref))

    def shown(self, index: int = -1) -> str:
        """What the summarising model was shown."""
        conversation = self.model.requests[index].conversation
        assert conversation is not None
        return conversation.last_user


@asynccontextmanager
async def acting(folder: Path, script: Script, steps: int = 8, window: str = "") -> AsyncGenerator[Agent]:
    async with ScriptedModel(script) as model:
        environ = {"OPENAI_API_KEY": model.api_key, "OPENAI_BASE_URL": model.base_url}
        providers = load_providers({**environ, "HIBERNAUT_CONTEXT_WINDOW": window})
        store = LocalStore(folder)
        transcript = Transcript(store)
        calls = ModelActivities(transcript, providers)
        agent = Agent(model, store, transcript, CompactionActivities(transcript, providers), calls)
        for _ in range(steps):
            await agent.said()
        try:
            yield agent
        finally:
            await providers.close()


def telling(*texts: str) -> Script:
    """A model that says these one after the other, whatever it is asked."""
    left = list(texts)
    return respond(lambda _: say(left.pop(0) if len(left) > 1 else left[0]))
