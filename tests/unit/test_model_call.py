"""The activity `model.call`: one reply for each step, whatever happens on the way."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from temporalio.testing import ActivityEnvironment

from activities.adapters.local_store import LocalStore
from activities.errors import ModelRejected, ModelUnavailable, TranscriptConflict, TranscriptDamaged
from activities.model_call import CALL_HEAD, REPLY_HEAD, TEXT_HEAD, ModelActivities, cut_for_history
from activities.providers import load_providers
from activities.transcript import Transcript
from activities.unanswered import ModelPerhapsPaid
from examples.scripted_model import Script, ScriptedModel, calls, hang, http_error, refuse, say, shell, slow
from hibernaut.contracts import Instructions, ModelReply, ModelRequest, PerhapsPaid, ToolResult, UserMessage
from hibernaut.models import CommandOutcome, OutcomeKind, ToolCall

UID = "0123456789abcdef"
HELLO = (Instructions(text="Be brief."), UserMessage(message_id="1", text="Hello"))


@dataclass
class Agent:
    """An activity, its model and its store."""

    model: ScriptedModel
    store: LocalStore
    transcript: Transcript
    activities: ModelActivities
    heartbeats: list[str] = field(default_factory=list[str])

    async def ask(self, **more: Any) -> ModelReply:  # noqa: ANN401  # fields of the request
        environment = ActivityEnvironment()
        environment.on_heartbeat = lambda *details: self.heartbeats.append(str(details[0]) if details else "")
        return await environment.run(self.activities.call, request(**more))


def request(**more: Any) -> ModelRequest:  # noqa: ANN401  # fields of the request
    fields: dict[str, Any] = {
        "agent_uid": UID,
        "branch": 0,
        "step": 1,
        "ordinal": 0,
        "transcript_ref": None,
        "new_items": HELLO,
        "provider": "default",
        "model": "scripted",
    }
    return ModelRequest(**{**fields, **more})


@asynccontextmanager
async def acting(folder: Path, script: Script) -> AsyncGenerator[Agent]:
    async with ScriptedModel(script) as model:
        providers = load_providers({"OPENAI_API_KEY": model.api_key, "OPENAI_BASE_URL": model.base_url})
        store = LocalStore(folder)
        transcript = Transcript(store)
        try:
            yield Agent(model, store, transcript, ModelActivities(transcript, providers))
        finally:
            await providers.close()


def ran(call: ToolCall) -> ToolResult:
    outcomes = tuple(
        CommandOutcome(exec_id=f"{call.call_id}-i{at}", command=command, kind=OutcomeKind.NOT_RUN)
        for at, command in enumerate(call.commands)
    )
    return ToolResult(call_id=call.call_id, call_kind=call.kind, outcomes=outcomes)


async def test_steps_make_a_conversation(tmp_path: Path) -> None:
    async with acting(tmp_path, [shell("ls"), say("Done."), say("Again.")]) as agent:
        first = await agent.ask()
        [call] = first.tool_calls
        assert call.commands == ("ls",)
        second = await agent.ask(step=2, transcript_ref=first.segment_ref, new_items=(ran(call),))
        assert (second.text_head, second.text_truncated, second.refusal) == ("Done.", False, False)
        third = await agent.ask(
            step=3, transcript_ref=second.segment_ref, new_items=(UserMessage(message_id="2", text="More"),)
        )
        assert third.text_head == "Again."
        seen = agent.model.requests[-1].conversation
        assert seen is not None
        assert seen.replies == 2
        kept = await agent.transcript.segments(third.segment_ref)
        assert [segment.step for segment in kept] == [1, 2, 3]
        assert kept[1].usage == second.usage
        assert kept[0].response_id
        agent.model.assert_consumed()


async def test_a_retry_returns_the_reply_that_was_kept(tmp_path: Path) -> None:
    async with acting(tmp_path, [shell("ls")]) as agent:
        first = await agent.ask()
        again = await agent.ask()
        assert not first.replayed
        assert again == first.model_copy(update={"replayed": True})
        assert len(agent.model.requests) == 1


async def test_two_attempts_at_once_return_one_reply(tmp_path: Path) -> None:
    async with acting(tmp_path, [slow("one reply for both", 0.02)]) as agent:
        first, second = await asyncio.gather(agent.ask(), agent.ask())
        assert first.segment_ref == second.segment_ref
        assert first.usage == second.usage
        assert sorted([first.replayed, second.replayed]) == [False, True]


async def test_another_request_under_the_same_step_is_refused(tmp_path: Path) -> None:
    async with acting(tmp_path, [say("One.")]) as agent:
        await agent.ask()
        with pytest.raises(TranscriptConflict):
            await agent.ask(new_items=(UserMessage(message_id="9", text="Other"),))
        assert (await agent.ask(new_items=(UserMessage(message_id="9", text="Other"),), ordinal=1)).text_head == "One."


async def test_a_failed_call_leaves_nothing_behind(tmp_path: Path) -> None:
    script = [http_error(429, {"retry-after": "3"}), http_error(400), say("Now.")]
    async with acting(tmp_path, script) as agent:
        with pytest.raises(ModelUnavailable) as caught:
            await agent.ask()
        assert caught.value.retry_after == 3
        with pytest.raises(ModelRejected):
            await agent.ask()
        assert [info async for info in agent.store.list("agents/")] == []
        assert (await agent.ask()).text_head == "Now."


async def test_an_unanswered_call_never_reaches_the_provider(tmp_path: Path) -> None:
    async with acting(tmp_path, [calls([["a"], ["b"]]), say("never")]) as agent:
        first = await agent.ask()
        with pytest.raises(TranscriptDamaged, match=first.tool_calls[1].call_id):
            await agent.ask(step=2, transcript_ref=first.segment_ref, new_items=(ran(first.tool_calls[0]),))
        assert len(agent.model.requests) == 1


async def test_an_empty_conversation_never_reaches_the_provider(tmp_path: Path) -> None:
    async with acting(tmp_path, [say("never")]) as agent:
        with pytest.raises(TranscriptDamaged, match="empty"):
            await agent.ask(new_items=(Instructions(),))
        assert agent.model.requests == []


async def test_an_unknown_provider_is_refused(tmp_path: Path) -> None:
    async with acting(tmp_path, [say("never")]) as agent:
        with pytest.raises(ModelRejected, match="default"):
            await agent.ask(provider="elsewhere")


async def test_a_refusal_is_told(tmp_path: Path) -> None:
    async with acting(tmp_path, [refuse("I will not.")]) as agent:
        reply = await agent.ask()
        assert (reply.refusal, reply.text_head) == (True, "I will not.")


async def test_heartbeats_show_the_newest_text(tmp_path: Path) -> None:
    async with acting(tmp_path, [slow("word " * 150, 0.05)]) as agent:
        reply = await agent.ask()
        assert len(agent.heartbeats) >= 2
        assert all(reply.text_head.find(beat) >= 0 and len(beat) <= 500 for beat in agent.heartbeats)
        assert any(agent.heartbeats)


async def test_heartbeats_go_on_while_the_provider_is_silent_and_a_cancel_ends_the_call(tmp_path: Path) -> None:
    async with acting(tmp_path, [hang(600)]) as agent:
        environment = ActivityEnvironment()
        beaten = asyncio.Event()
        beats: list[object] = []

        def on_heartbeat(*details: object) -> None:
            beats.append(details)
            if len(beats) >= 2:
                beaten.set()

        environment.on_heartbeat = on_heartbeat
        asked = asyncio.create_task(environment.run(agent.activities.call, request()))
        await beaten.wait()
        environment.cancel()
        with pytest.raises(ModelPerhapsPaid) as given_up:
            await asked
        [paid] = given_up.value.details
        assert PerhapsPaid.model_validate(paid).requests == 1
        assert [info async for info in agent.store.list("agents/")] == []


async def test_a_long_reply_is_cut_for_the_history_and_kept_whole(tmp_path: Path) -> None:
    text, command = "t" * 20_000, "c" * 50_000
    async with acting(tmp_path, [shell(command, "short", text=text)]) as agent:
        reply = await agent.ask()
        assert (len(reply.text_head), reply.text_truncated) == (TEXT_HEAD, True)
        [call] = reply.tool_calls
        assert call.cut
        assert [len(shown) for shown in call.commands] == [2_000, 5]
        assert await agent.transcript.commands_of(reply.segment_ref, call.call_id) == (command, "short")
        assert await agent.transcript.answer_text(reply.segment_ref) == text


async def test_many_long_calls_fit_into_the_history(tmp_path: Path) -> None:
    async with acting(tmp_path, [calls([["x" * 300] * 50] * 20)]) as agent:
        reply = await agent.ask()
        assert sum(len(command) for call in reply.tool_calls for command in call.commands) <= REPLY_HEAD
        assert all(call.cut and len(call.commands) == 50 for call in reply.tool_calls)


def test_only_what_is_too_long_is_cut() -> None:
    short = ToolCall(call_id="c", kind="shell_call", commands=("x" * 2_000,) * 4)
    assert cut_for_history(short) is short
    cut = cut_for_history(ToolCall(call_id="c", kind="shell_call", commands=("x" * 2_000,) * 5))
    assert cut.cut
    assert sum(len(command) for command in cut.commands) <= CALL_HEAD
    assert len(cut.commands) == 5
    empty = ToolCall(call_id="c", kind="shell_call", error="no")
    assert cut_for_history(empty) is empty
