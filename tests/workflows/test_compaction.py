"""Compaction as the workflow sees it: when it is asked for, what goes on with it, and what happens without it."""

from temporalio.exceptions import ApplicationError

from hibernaut import contracts as c
from hibernaut.models import AgentState, AnswerState, Event, EventKind, EventsPage
from tests.workflows.conftest import Rig
from tests.workflows.world import say, shell
from workflows.compaction import AGAIN_AFTER
from workflows.window import CompactionState

OVERFLOW = ApplicationError("200,001 tokens are too many", type=c.CONTEXT_OVERFLOW, non_retryable=True)


def near(reply: c.ModelReply) -> c.ModelReply:
    return reply.model_copy(update={"compact": True})


async def events(rig: Rig, agent: object, kind: EventKind) -> list[Event]:
    page = await rig.query(agent, "events", result_type=EventsPage)  # pyright: ignore[reportArgumentType]  # a handle
    return [event for event in page.events if event.kind is kind]


async def test_a_reply_near_the_window_is_followed_by_a_compaction(rig: Rig) -> None:
    rig.world.script = [near(shell("ls")), say("done"), say("again")]
    agent = await rig.start()
    assert (await rig.ask(agent, "go")).text == "done"
    assert (await rig.ask(agent, "on")).text == "again"
    [asked] = rig.world.compactions
    first, *later = rig.world.requests
    uid = first.agent_uid
    assert (asked.step, asked.hard, asked.compaction_ref) == (1, False, None)
    assert asked.transcript_ref == c.StoreKeys.segment(uid, 0, 0, 0)
    assert first.compaction_ref is None
    # From now on every call goes by it.
    assert [request.compaction_ref for request in later] == [c.StoreKeys.compaction(uid, 0, 1, 0)] * 2
    status = await rig.status(agent)
    assert status.compactions == 1
    assert status.usage.total_tokens == 15 * 3 + 120
    [event] = await events(rig, agent, EventKind.COMPACTED)
    assert (event.data["covers_step"], event.data["tokens_before"]) == (0, 1_000)


async def test_the_next_compaction_goes_on_from_the_last(rig: Rig) -> None:
    rig.world.script = [near(shell("1")), near(shell("2")), say("done")]
    agent = await rig.start()
    await rig.ask(agent, "go")
    first, second = rig.world.compactions
    assert second.compaction_ref == c.StoreKeys.compaction(first.agent_uid, 0, 1, 0)
    assert rig.world.requests[2].compaction_ref == c.StoreKeys.compaction(first.agent_uid, 0, 2, 0)


async def test_a_compaction_is_carried_into_the_next_run(rig: Rig) -> None:
    rig.world.script = [near(shell("1")), say("done"), near(say("awake")), say("and on")]
    agent = await rig.start()
    await rig.ask(agent, "go")
    await rig.order(agent, "hibernate")
    await rig.until(agent, state=AgentState.HIBERNATED)
    await rig.ask(agent, "wake")
    ref = rig.world.requests[2].compaction_ref
    assert ref == c.StoreKeys.compaction(rig.world.requests[0].agent_uid, 0, 1, 0)
    # One that is due is carried too.
    await rig.order(agent, "hibernate")
    await rig.until(agent, state=AgentState.HIBERNATED)
    await rig.ask(agent, "on")
    assert [request.compaction_ref for request in rig.world.compactions] == [None, ref]
    assert (await rig.status(agent)).compactions == 2


async def test_an_overflow_is_answered_by_a_harder_compaction_and_another_try(rig: Rig) -> None:
    rig.world.script = [shell("1"), OVERFLOW, say("done")]
    agent = await rig.start()
    answer = await rig.ask(agent, "go")
    assert (answer.state, answer.text) == (AnswerState.DONE, "done")
    [asked] = rig.world.compactions
    assert (asked.step, asked.ordinal, asked.hard) == (1, 1, True)
    _, refused, again = rig.world.requests
    assert (refused.ordinal, refused.compaction_ref) == (0, None)
    assert (again.ordinal, again.compaction_ref) == (1, c.StoreKeys.compaction(asked.agent_uid, 0, 1, 1))
    assert again.new_items == refused.new_items


async def test_a_second_overflow_pauses_with_the_reason_and_a_resume_tries_anew(rig: Rig) -> None:
    rig.world.script = [shell("1"), OVERFLOW, OVERFLOW, OVERFLOW, say("done")]
    agent = await rig.start()
    ticket = await rig.send(agent, "go")
    status = await rig.until(agent, state=AgentState.PAUSED)
    assert status.paused_reason is not None
    assert "longer than the model's window" in status.paused_reason
    assert "200,001" in status.paused_reason
    assert len(rig.world.compactions) == 1
    await rig.order(agent, "resume")
    assert (await rig.answer(agent, ticket.message_id)).text == "done"
    assert len(rig.world.compactions) == 2


async def test_nothing_to_compact_pauses(rig: Rig) -> None:
    rig.world.script = [OVERFLOW, say("done")]
    agent = await rig.start()
    ticket = await rig.send(agent, "go")
    status = await rig.until(agent, state=AgentState.PAUSED)
    assert "only begun" in str(status.paused_reason)
    assert rig.world.compactions == []
    await rig.order(agent, "resume")
    assert (await rig.answer(agent, ticket.message_id)).text == "done"


async def test_a_compaction_that_fails_does_not_end_the_turn(rig: Rig) -> None:
    steps = AGAIN_AFTER + 2
    rig.world.script = [*(near(shell(str(number))) for number in range(steps)), say("done")]
    rig.world.compact_errors = [ApplicationError("the model declined", type="ModelRejected", non_retryable=True)]
    agent = await rig.start()
    assert (await rig.ask(agent, "go")).text == "done"
    [event] = await events(rig, agent, EventKind.COMPACTION_FAILED)
    assert "declined" in str(event.data["reason"])
    # It is not tried before every call, but not never either.
    assert [request.step for request in rig.world.compactions] == [1, AGAIN_AFTER + 1, AGAIN_AFTER + 2]


async def test_an_overflow_that_cannot_be_compacted_pauses(rig: Rig) -> None:
    rig.world.script = [shell("1"), OVERFLOW, say("done")]
    rig.world.compacts = False
    agent = await rig.start()
    ticket = await rig.send(agent, "go")
    status = await rig.until(agent, state=AgentState.PAUSED)
    assert "nothing is left to be summarised" in str(status.paused_reason)
    await rig.order(agent, "resume")
    assert (await rig.answer(agent, ticket.message_id)).text == "done"


async def test_an_interrupt_does_not_wait_for_a_compaction(rig: Rig) -> None:
    rig.world.script = [near(shell("1")), say("later")]
    rig.world.block_compaction = True
    agent = await rig.start()
    ticket = await rig.send(agent, "go")
    await rig.world.compacting.wait()
    await rig.order(agent, "interrupt")
    assert (await rig.answer(agent, ticket.message_id)).state is AnswerState.INTERRUPTED
    rig.world.block_compaction = False
    assert (await rig.ask(agent, "go on")).text == "later"
    # It is still due, and the same request: what the first attempt wrote is what the second returns.
    assert len(rig.world.compactions) >= 2
    assert rig.world.compactions[0] == rig.world.compactions[-1]


def test_a_rewind_keeps_only_a_compaction_that_surely_fits() -> None:
    state = CompactionState(ref="x", covers_branch=1, covers_step=8, count=3, due=True, not_before=20, squeezed=12)
    kept = state.rewound(1, 8)
    assert (kept.ref, kept.count, kept.due, kept.not_before, kept.squeezed) == ("x", 3, True, 0, None)
    for branch, step in ((1, 7), (0, 9), (2, 9)):
        dropped = state.rewound(branch, step)
        # Whether what is left is too long, the worker looks before the next call.
        assert (dropped.ref, dropped.count, dropped.due) == (None, 3, True)
