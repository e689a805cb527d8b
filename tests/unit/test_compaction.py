"""`transcript.compact`: written once, mistrusted when read, and worth its call."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from temporalio.testing import ActivityEnvironment

from activities.compacted import Compactions
from activities.errors import ModelRejected, ModelUnavailable, TranscriptConflict, TranscriptDamaged
from activities.items import message
from activities.kept_parts import REPORTS
from activities.pricing import ModelUnpriced
from examples.scripted_model import Conversation, context_overflow, refuse, respond
from hibernaut.contracts import ModelRequest, StoreKeys, UserMessage
from hibernaut.models import RecoveryReport
from tests.support.compacting import LONG, UID, acting, telling


async def test_a_retry_returns_the_summary_that_was_kept(tmp_path: Path) -> None:
    async with acting(tmp_path, telling("## Done\nmuch")) as agent:
        first = await agent.compact()
        asked = len(agent.model.requests)
        assert await agent.compact() == first.model_copy(update={"replayed": True})
        assert len(agent.model.requests) == asked
        assert first.ref == StoreKeys.compaction(UID, 0, 8, 0)
        assert first.usage.output_tokens > 0
        assert first.summary_head == "## Done\nmuch"
        assert first.tokens_before == 3_600


async def test_two_attempts_at_once_return_one_summary(tmp_path: Path) -> None:
    async with acting(tmp_path, telling("one", "two", "three", "four", "five", "six", "seven")) as agent:
        first, second = await asyncio.gather(agent.compact(), agent.compact())
        assert first.summary_head == second.summary_head
        assert sorted([first.replayed, second.replayed]) == [False, True]


async def test_another_request_under_the_same_call_is_refused(tmp_path: Path) -> None:
    async with acting(tmp_path, telling("one")) as agent:
        await agent.compact()
        with pytest.raises(TranscriptConflict):
            await agent.compact(transcript_ref=agent.segments[-2].key)
        assert (await agent.compact(transcript_ref=agent.segments[-2].key, ordinal=1)).ref is not None


async def test_what_comes_near_no_window_is_left_alone(tmp_path: Path) -> None:
    async with acting(tmp_path, telling("never")) as agent:
        assert (await agent.compact(hard=False)).ref is None
    async with acting(tmp_path / "wide", telling("never"), window="100000") as agent:
        assert (await agent.compact(hard=False)).ref is None
    async with acting(tmp_path / "narrow", telling("now"), window="4000") as agent:
        assert (await agent.compact(hard=False)).ref is not None


async def test_what_frees_nothing_is_not_worth_a_call(tmp_path: Path) -> None:
    async with acting(tmp_path, telling("never"), steps=0, window="1000") as agent:
        await agent.said(message("developer", "x" * 20_000), message("user", "hi"))
        await agent.said()
        assert (await agent.compact(hard=False)).ref is None
        assert agent.model.requests == []


async def test_a_compaction_of_nothing_new_is_none(tmp_path: Path) -> None:
    async with acting(tmp_path, telling("all"), steps=1) as agent:
        first = await agent.compact()
        assert (await agent.compact(step=2, compaction_ref=first.ref)).ref is None


async def test_the_newest_steps_stay_as_they_are(tmp_path: Path) -> None:
    async with acting(tmp_path, telling("much"), window="4000") as agent:
        result = await agent.compact(hard=False)
        assert result.covers_step < 7
        past = await Compactions(agent.transcript).past(agent.segments[-1].key, result.ref)
        assert [segment.step for segment in past.segments] == list(range(result.covers_step + 1, 8))
        assert past.items[-1] == agent.segments[-1].reply_items[-1]


async def test_the_answers_of_the_covered_step_find_their_call(tmp_path: Path) -> None:
    call = {"type": "function_call", "call_id": "c1", "name": "shell", "arguments": '{"commands": ["ls"]}'}
    answer = {"type": "function_call_output", "call_id": "c1", "output": '{"outputs": []}'}
    async with acting(tmp_path, telling("much")) as agent:
        await agent.said(reply=call)
        await agent.said(answer, message("developer", "y" * 20_000))
        result = await agent.compact(ordinal=1)
        assert result.covers_step == 9
        shorter = await agent.compact(transcript_ref=agent.segments[8].key)
        assert (await agent.read(shorter)).items[-1] == call
        # Its answer is still asked for, though no segment follows.
        asked = ModelRequest(
            agent_uid=UID,
            branch=0,
            step=9,
            ordinal=3,
            transcript_ref=agent.segments[8].key,
            compaction_ref=shorter.ref,
            new_items=(UserMessage(message_id="m", text="and?"),),
            provider="default",
            model="scripted",
        )
        with pytest.raises(TranscriptDamaged, match="c1"):
            await ActivityEnvironment().run(agent.calls.call, asked)


async def test_the_newest_reports_are_kept_and_the_others_counted(tmp_path: Path) -> None:
    async with acting(tmp_path, telling("much"), steps=0) as agent:
        await agent.said(message("developer", "Be brief."), message("user", LONG))
        for number in range(REPORTS + 4):
            report = RecoveryReport(reason=f"fire {number}", generation=1, restored_snapshot=None)
            await agent.said(message("developer", report.render()))
        for _ in range(8):
            await agent.said()
        first = await agent.compact()
        kept = await agent.read(first)
        reports = [json.dumps(one.item) for one in kept.pinned if one.why == "report"]
        assert len(reports) + kept.reports_left_out == REPORTS + 4
        assert 1 <= len(reports) <= REPORTS
        assert f"fire {REPORTS + 3}." in reports[-1]
        assert f"{kept.reports_left_out} older recovery reports" in json.dumps(kept.items)
        await agent.said()
        second = await agent.read(await agent.compact(compaction_ref=first.ref))
        assert [one.item for one in second.pinned if one.why == "instructions"] == [message("developer", "Be brief.")]
        assert sum(one.why == "report" for one in second.pinned) + second.reports_left_out == REPORTS + 4
        assert second.previous == first.ref


async def test_a_summary_that_forgets_the_open_tasks_gets_them_back(tmp_path: Path) -> None:
    async with acting(tmp_path, telling("## Open tasks\nfeed the cat\n## Done\na"), steps=3) as agent:
        first = await agent.compact()
    async with acting(tmp_path, telling("## Done\nb"), steps=0) as agent:
        agent.segments = [await agent.transcript.segment(StoreKeys.segment(UID, 0, step, 0)) for step in range(3)]
        await agent.said()
        second = await agent.compact(compaction_ref=first.ref)
        assert (await agent.read(second)).summary == "## Open tasks\nfeed the cat\n\n## Done\nb"
        assert "feed the cat" in agent.shown()


async def test_the_conversation_is_shown_as_a_text_and_without_tools(tmp_path: Path) -> None:
    call = {"type": "shell_call", "call_id": "c1", "action": {"commands": ["make it"]}, "status": "completed"}
    output = {"stdout": "o" * 10_000, "stderr": "boom", "outcome": {"type": "exit", "exit_code": 3}}
    async with acting(tmp_path, telling("much"), steps=0) as agent:
        await agent.said(reply=call)
        await agent.said({"type": "shell_call_output", "call_id": "c1", "output": [output]})
        await agent.compact()
        assert not agent.model.requests[0].body.get("tools")
        shown = "".join(agent.shown(index) for index in range(len(agent.model.requests)))
        assert "$ make it" in shown
        assert "[exit 3]" in shown
        assert "boom" in shown
        assert "o" * 3_000 not in shown


async def test_a_refusal_is_final_and_silence_is_not(tmp_path: Path) -> None:
    async with acting(tmp_path, respond(lambda _: refuse("I will not."))) as agent:
        with pytest.raises(ModelRejected, match="I will not"):
            await agent.compact()
    async with acting(tmp_path / "silent", telling(" ")) as agent:
        with pytest.raises(ModelUnavailable):
            await agent.compact()


async def test_a_window_too_small_for_anything_is_an_overflow_after_few_tries(tmp_path: Path) -> None:
    def full(_: Conversation) -> Any:  # noqa: ANN401  # a step
        return context_overflow()

    async with acting(tmp_path, respond(full)) as agent:
        with pytest.raises(ModelRejected):
            await agent.compact()
        assert len(agent.model.requests) <= 7


async def test_where_money_is_limited_a_model_without_a_price_is_not_asked(tmp_path: Path) -> None:
    async with acting(tmp_path, telling("never")) as agent:
        with pytest.raises(ModelUnpriced):
            await agent.compact(priced=True)
        assert agent.model.requests == []


@pytest.mark.parametrize("harm", ["gone", "garbage", "elsewhere"])
async def test_a_compaction_that_cannot_be_used_is_passed_over(tmp_path: Path, harm: str) -> None:
    async with acting(tmp_path, telling("much")) as agent:
        result = await agent.compact()
        ref, last = str(result.ref), agent.segments[-1].key
        if harm == "gone":
            await agent.store.delete([ref])
        elif harm == "garbage":
            await agent.store.delete([ref])
            await agent.store.put(ref, b"{}")
        else:
            # A rewind to before what it stands for.
            last = agent.segments[1].key
        past = await Compactions(agent.transcript).past(last, ref)
        assert past.compacted is None
        assert past.segments[0].step == 0
        assert past.last is not None
        assert past.last.key == last
