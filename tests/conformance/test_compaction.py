"""One suite for every wire: a conversation of any length fits into a small window, and nothing pinned is lost."""

import json
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml
from temporalio.testing import ActivityEnvironment

from activities.adapters.local_store import LocalStore
from activities.compacted import Compactions
from activities.compaction import CompactionActivities
from activities.errors import ContextOverflow
from activities.model_call import ModelActivities
from activities.providers import load_providers
from activities.transcript import Transcript
from examples.scripted_model import Conversation, ScriptedModel, context_overflow, say, shell
from examples.scripted_model.steps import Step
from hibernaut.contracts import (
    CompactRequest,
    CompactResult,
    Instructions,
    ModelReply,
    ModelRequest,
    NewItem,
    Note,
    ToolResult,
    UserMessage,
)
from hibernaut.models import CommandOutcome, OutcomeKind, RecoveryReport
from tests.conformance.model_talk import Wire

UID = "0123456789abcdef"
WINDOW = 4_000
SECRET_WORD = "the word is heliotrope"
REPORT = RecoveryReport(reason="the host caught fire", generation=2, restored_snapshot=7)
MEMORY = "You keep the memory"


@pytest.fixture(params=["responses", "chat"])
def wire(request: pytest.FixtureRequest) -> Wire:
    return request.param


@dataclass
class Life:
    """An agent without a workflow: it asks, answers calls, and compacts as a workflow does."""

    calls: ModelActivities
    compaction: CompactionActivities
    compactions: Compactions
    model: ScriptedModel
    step: int = 0
    ordinal: int = 0
    ref: str | None = None
    compaction_ref: str | None = None
    due: bool = False
    results: list[CompactResult] = field(default_factory=list[CompactResult])

    async def turn(self, number: int, *more: NewItem, text: str = "") -> ModelReply:
        pending: list[NewItem] = [*more, UserMessage(message_id=str(number), text=text or f"question {number} " * 8)]
        while True:
            reply = await self.ask(pending)
            if not reply.tool_calls:
                return reply
            pending = [
                ToolResult(
                    call_id=call.call_id,
                    call_kind=call.kind,
                    outcomes=tuple(
                        CommandOutcome(exec_id=f"e{self.step}", command=command, kind=OutcomeKind.EXIT, exit_code=0)
                        for command in call.commands
                    ),
                )
                for call in reply.tool_calls
            ]

    async def ask(self, new_items: list[NewItem]) -> ModelReply:
        if self.due:
            await self.compact(hard=False)
        try:
            reply = await self._call(new_items)
        except ContextOverflow:
            self.ordinal += 1
            await self.compact(hard=True)
            reply = await self._call(new_items)
        self.ref, self.step, self.ordinal, self.due = reply.segment_ref, self.step + 1, 0, reply.compact
        return reply

    async def _call(self, new_items: list[NewItem]) -> ModelReply:
        asked = ModelRequest(
            agent_uid=UID,
            branch=0,
            step=self.step,
            ordinal=self.ordinal,
            transcript_ref=self.ref,
            compaction_ref=self.compaction_ref,
            new_items=tuple(new_items),
            provider="main",
            model="scripted",
        )
        return await ActivityEnvironment().run(self.calls.call, asked)

    async def compact(self, *, hard: bool) -> CompactResult:
        result = await ActivityEnvironment().run(self.compaction.compact, self.request(hard=hard))
        self.results.append(result)
        if result.ref is not None:
            self.compaction_ref, self.due = result.ref, False
        return result

    def request(self, *, hard: bool) -> CompactRequest:
        assert self.ref is not None
        return CompactRequest(
            agent_uid=UID,
            branch=0,
            step=self.step,
            ordinal=self.ordinal,
            transcript_ref=self.ref,
            compaction_ref=self.compaction_ref,
            provider="main",
            model="scripted",
            hard=hard,
        )

    @property
    def asked(self) -> Iterator[str]:
        """The bodies of all requests for a step, as text."""
        for request in self.model.requests:
            if request.conversation is not None and not _summarising(request.conversation) and request.status == 200:
                yield json.dumps(request.body)


def _summarising(conversation: Conversation) -> bool:
    return any(note.startswith(MEMORY) for note in conversation.notes)


@dataclass
class Mind:
    """A model with a small window: it runs commands in every turn, and summarises by counting."""

    window: int = WINDOW
    commands: int = 1
    """Of each turn."""
    summaries: int = 0
    ran: int = 0
    model: ScriptedModel | None = None

    def __call__(self, conversation: Conversation) -> Step:
        assert self.model is not None
        body: Any = self.model.requests[-1].body
        if len(json.dumps(body.get("input") or body.get("messages"))) > 4 * self.window:
            return context_overflow()
        if _summarising(conversation):
            assert not body.get("tools")
            self.summaries += 1
            return say(f"## Open tasks\nnone\n## Done\nsummary {self.summaries}")
        if self.ran >= self.commands:
            self.ran = 0
            return say("Done. " * 10)
        self.ran += 1
        return shell(f"echo {self.ran}")


@asynccontextmanager
async def living(folder: Path, wire: Wire, mind: Mind, **settings: object) -> AsyncGenerator[Life]:
    async with ScriptedModel(mind) as model:
        mind.model = model
        provider = {"wire": wire, "base_url": model.base_url, "api_key_env": "KEY", **settings}
        file = folder / "providers.yaml"
        file.write_text(yaml.safe_dump({"providers": {"main": provider}}))
        providers = load_providers({"HIBERNAUT_PROVIDERS": str(file), "KEY": model.api_key})
        transcript = Transcript(LocalStore(folder / "store"))
        try:
            yield Life(
                ModelActivities(transcript, providers),
                CompactionActivities(transcript, providers),
                Compactions(transcript),
                model,
            )
        finally:
            await providers.close()


@pytest.mark.slow
async def test_a_conversation_of_two_hundred_turns_fits_into_a_small_window(tmp_path: Path, wire: Wire) -> None:
    mind = Mind()
    async with living(tmp_path, wire, mind, context_window=WINDOW) as life:
        await life.turn(0, Instructions(text=f"Remember: {SECRET_WORD}."))
        for number in range(1, 100):
            await life.turn(number)
        await life.turn(100, Note(text=REPORT.render(), report=REPORT))
        for number in range(101, 200):
            await life.turn(number)
        asked = list(life.asked)
        assert len(asked) == 400
        assert all(SECRET_WORD in body for body in asked)
        assert all("the host caught fire" in body for body in asked[200:])
        assert all(request.status == 200 for request in life.model.requests)
        assert len(life.results) > 5
        assert all(result.ref and result.tokens_after < result.tokens_before / 2 for result in life.results)
        newest = await life.compactions.read(str(life.compaction_ref))
        assert newest.summary.endswith(f"summary {mind.summaries}")
        # Nothing was given up: every step is still there.
        assert len(await Transcript(LocalStore(tmp_path / "store")).segments(life.ref)) == 400


@pytest.mark.slow
async def test_a_refused_conversation_is_compacted_without_any_setting(tmp_path: Path, wire: Wire) -> None:
    async with living(tmp_path, wire, Mind()) as life:
        await life.turn(0, Instructions(text=f"Remember: {SECRET_WORD}."))
        for number in range(1, 60):
            await life.turn(number)
        assert [result.ref for result in life.results]
        assert all(SECRET_WORD in body for body in life.asked)
        assert any(request.status == 400 for request in life.model.requests)


async def test_the_messages_of_the_running_turn_are_kept_word_for_word(tmp_path: Path, wire: Wire) -> None:
    mind = Mind()
    async with living(tmp_path, wire, mind, context_window=WINDOW) as life:
        for number in range(5):
            await life.turn(number)
        done, text = len(list(life.asked)), "Count to a hundred thousand, please. " * 20
        mind.commands = 100
        await life.turn(5, text=text)
        assert len(life.results) >= 2
        kept = await life.compactions.read(str(life.compaction_ref))
        assert [one.why for one in kept.pinned] == ["message"]
        assert (kept.calling, kept.items[-1]["type"].endswith("_call")) == (True, True)
        assert all(text in body for body in list(life.asked)[done:])
        # When that turn is over, its message goes with it.
        mind.commands = 1
        while len(life.results) < 6:
            await life.turn(6)
        assert text not in list(life.asked)[-1]


@pytest.mark.slow
async def test_a_summarising_model_with_a_smaller_window_is_shown_less_at_once(tmp_path: Path, wire: Wire) -> None:
    mind = Mind(window=100_000)
    async with living(tmp_path, wire, mind) as life:
        for number in range(40):
            await life.turn(number)
        mind.window = 2_000
        first = await life.compact(hard=True)
        assert first.ref is not None
        assert mind.summaries > 1
        # Refused again, it goes on from what is left.
        life.ordinal += 1
        second = await life.compact(hard=True)
        assert second.tokens_before == first.tokens_after
        assert second.tokens_after < first.tokens_after < first.tokens_before / 2


async def test_no_call_id_comes_again_after_a_compaction(tmp_path: Path, wire: Wire) -> None:
    async with living(tmp_path, wire, Mind(), context_window=WINDOW) as life:
        number = 0
        while len(life.results) < 3:
            await life.turn(number)
            number += 1
        segments = await Transcript(LocalStore(tmp_path / "store")).segments(life.ref)
        ids = [call.call_id for segment in segments for call in segment.tool_calls]
        assert len(ids) == len(set(ids)) == number
