"""The rungs of the recovery ladder, one by one, in a workflow with a scripted world."""

from collections.abc import Callable

import pytest
from temporalio.exceptions import ApplicationError
from temporalio.worker import Worker

from hibernaut import contracts as c
from hibernaut.models import AgentState, AgentStatus, EventsPage, OutcomeKind, RecoveryReport
from tests.workflows.conftest import Rig
from tests.workflows.world import BUSY_QUEUE, GHOST, HOST, gone, say, shell


def _report(status: AgentStatus) -> RecoveryReport:
    assert status.last_recovery is not None
    return status.last_recovery


async def test_a_container_that_stopped_is_started_again_with_its_files(rig: Rig) -> None:
    rig.world.script = [shell("make"), say("told")]
    rig.world.stop_during_exec = 0
    rig.world.journal = {"b0-s0-c0-i0": OutcomeKind.UNKNOWN}
    agent = await rig.start()
    assert (await rig.ask(agent, "go")).text == "told"
    report = _report(await rig.status(agent))
    assert report.how == "restarted"
    assert report.uncertain_commands == ("make",)
    assert report.lost_commands == ()
    assert len(rig.world.acquired) == 1
    assert [request.attach_only for request in rig.world.execs] == [False, True]
    assert rig.world.execs[1].lease.started_at == "again"
    assert rig.world.restored == []
    assert "The same computer was started again" in str(rig.world.requests[1].new_items[-1])


async def test_what_finished_before_the_restart_is_no_longer_uncertain(rig: Rig) -> None:
    rig.world.script = [shell("make"), say("told")]
    rig.world.stop_during_exec = 0
    rig.world.journal = {"b0-s0-c0-i0": OutcomeKind.EXIT}
    agent = await rig.start()
    assert (await rig.ask(agent, "go")).text == "told"
    status = await rig.status(agent)
    assert _report(status).uncertain_commands == ()
    page = await rig.query(agent, "events", 0, result_type=EventsPage)
    commands = [event.data["kind"] for event in page.events if event.kind == "command"]
    assert commands == ["exit"]


async def _skip_until(rig: Rig, reached: Callable[[], bool]) -> None:
    for _ in range(100):
        if reached():
            return
        await rig.skip(seconds=2)
    raise AssertionError("it never came to that")


@pytest.mark.slow
async def test_an_agent_whose_host_is_gone_moves_to_another(rig: Rig) -> None:
    rig.world.script = [shell("make"), say("moved")]
    rig.world.ghostly = {1}
    agent = await rig.start()
    ticket = await rig.send(agent, "go")
    await _skip_until(rig, lambda: len(rig.world.acquired) == 2)
    assert (await rig.answer(agent, ticket.message_id)).text == "moved"
    status = await rig.status(agent)
    report = _report(status)
    assert status.lease is not None
    assert status.lease.host_id == HOST
    assert status.generation == 2
    assert report.how == "restored"
    assert report.host_id == HOST
    assert report.reason == f"host {GHOST} does not answer"
    assert report.uncertain_commands == ("make",)
    assert list(report.rungs) == [
        "host.ping: silent",
        "placement.choose (another host): other host",
        "sandbox.acquire: done",
        "snapshot.restore: done",
        "shell.exec (replay): done",
    ]
    assert rig.world.execs == []


@pytest.mark.slow
async def test_a_host_that_is_back_by_the_time_it_is_chosen_again_keeps_its_sandbox(rig: Rig) -> None:
    rig.world.script = [shell("make"), say("done")]
    rig.world.ghostly = {1}
    rig.world.place = GHOST
    agent = await rig.start()
    ticket = await rig.send(agent, "go")
    await _skip_until(rig, lambda: rig.world.places == 2)
    async with Worker(rig.client, task_queue=c.host_queue(GHOST), activities=list(rig.world.activities())):
        assert (await rig.answer(agent, ticket.message_id)).text == "done"
    status = await rig.status(agent)
    assert status.generation == 1
    assert status.recoveries == 0
    assert len(rig.world.assessed) == 1
    assert len(rig.world.execs) == 1


async def test_a_missing_image_is_loaded_from_the_store(rig: Rig) -> None:
    rig.world.script = [shell("make"), say("done"), shell("make"), say("again")]
    agent = await rig.start()
    await rig.ask(agent, "go")
    await rig.order(agent, "hibernate")
    await rig.until(agent, state=AgentState.HIBERNATED)
    rig.world.acquire_errors = [ApplicationError("no such image", type=c.IMAGE_NOT_FOUND, non_retryable=True)]
    assert (await rig.ask(agent, "go")).text == "again"
    assert [request.image_id for request in rig.world.loaded] == ["sha256:image"]
    assert (await rig.status(agent)).recoveries == 0


async def test_the_image_is_kept_when_the_store_lacks_it(rig: Rig) -> None:
    rig.world.images_kept = False
    rig.world.script = [shell("make"), say("done")]
    agent = await rig.start()
    await rig.ask(agent, "go")
    await rig.order(agent, "hibernate")
    await rig.until(agent, state=AgentState.HIBERNATED)
    assert [request.image_id for request in rig.world.kept_images] == ["sha256:image"]


async def test_replay_runs_what_is_safe_again_in_order_and_tells(rig: Rig) -> None:
    rig.world.script = [shell("pip install x", "date; true", "make -j"), say("told"), say("end")]
    rig.world.snapshot_errors = [ApplicationError("the container is gone", type=c.SANDBOX_LOST, non_retryable=True)]
    agent = await rig.start(recovery="replay", retry_safe=["pip install *", "date*", "make *"])
    await rig.ask(agent, "go")
    replay = rig.world.execs[1]
    assert replay.commands == ("pip install x", "make -j")
    assert replay.exec_prefix.startswith("replay-g2")
    report = _report(await rig.status(agent))
    assert [(done.command, done.exit_code) for done in report.replayed] == [("pip install x", 0), ("make -j", 0)]
    assert report.lost_commands == ("pip install x", "date; true", "make -j")


async def test_a_call_marked_by_the_model_is_replayed(rig: Rig) -> None:
    reply = shell("date")
    marked = reply.tool_calls[0].model_copy(update={"retry_safe": True, "kind": "function_call"})
    rig.world.script = [reply.model_copy(update={"tool_calls": (marked,)}), say("told")]
    rig.world.lose_during_exec = 0
    agent = await rig.start(recovery="replay")
    await rig.ask(agent, "go")
    assert rig.world.execs[1].commands == ("date",)
    report = _report(await rig.status(agent))
    assert report.uncertain_commands == ("date",)
    assert [done.command for done in report.replayed] == ["date"]


async def test_the_head_of_a_long_command_is_never_replayed(rig: Rig) -> None:
    reply = shell("rm -rf /a/b", "true")
    call = reply.tool_calls[0].model_copy(update={"retry_safe": True, "cut": True})
    rig.world.script = [reply.model_copy(update={"tool_calls": (call,)}), say("told")]
    rig.world.exec_error = gone()
    agent = await rig.start(recovery="replay")
    assert (await rig.ask(agent, "go")).text == "told"
    assert len(rig.world.execs) == 1
    report = _report(await rig.status(agent))
    assert report.uncertain_commands == ("rm -rf /a/b", "true")
    assert report.replayed == ()


async def test_an_interrupt_whose_exec_fails_ends_what_may_still_run(rig: Rig) -> None:
    rig.world.script = [shell("sleep 1000", "date")]
    rig.world.block_exec = True
    rig.world.exec_error = ApplicationError("the store is down", type="StoreUnavailable", non_retryable=True)
    rig.world.journal = {"b0-s0-c0-i0": OutcomeKind.INTERRUPTED}
    agent = await rig.start()
    ticket = await rig.send(agent, "go")
    await rig.world.blocked.wait()
    await rig.order(agent, "interrupt")
    assert (await rig.answer(agent, ticket.message_id)).state == "interrupted"
    first, stop = rig.world.execs
    assert not first.stop
    assert stop.stop
    assert stop.attach_only
    page = await rig.query(agent, "events", 0, result_type=EventsPage)
    assert [event.data["kind"] for event in page.events if event.kind == "command"] == ["interrupted", "not_run"]


@pytest.mark.slow
async def test_a_busy_host_is_asked_again_and_again_and_nothing_is_lost(rig: Rig) -> None:
    rig.world.script = [shell("make"), say("done")]
    rig.world.busy = {1}
    agent = await rig.start(max_recoveries=1)
    ticket = await rig.send(agent, "go")
    await _skip_until(rig, lambda: len(rig.world.pings) > 1)
    async with Worker(rig.client, task_queue=BUSY_QUEUE, activities=list(rig.world.activities())):
        assert (await rig.answer(agent, ticket.message_id)).text == "done"
        status = await rig.status(agent)
        assert status.recoveries == 0
        assert status.generation == 1
        assert set(rig.world.pings) == {HOST}
        assert len(rig.world.execs) == 1


async def test_the_policy_pause_waits_for_a_person(rig: Rig) -> None:
    rig.world.script = [shell("make"), say("told")]
    rig.world.lose_during_exec = 0
    agent = await rig.start(recovery="pause")
    ticket = await rig.send(agent, "go")
    status = await rig.until(agent, state=AgentState.PAUSED)
    assert status.paused_reason is not None
    assert "recovery: pause" in status.paused_reason
    assert len(rig.world.requests) == 1
    await rig.order(agent, "resume")
    assert (await rig.answer(agent, ticket.message_id)).text == "told"


async def test_recovery_that_keeps_failing_pauses_with_the_reason(rig: Rig) -> None:
    rig.world.script = [shell("make"), shell("make"), shell("make"), say("told")]
    rig.world.lose_every_exec = True
    agent = await rig.start(max_recoveries=2)
    ticket = await rig.send(agent, "go")
    status = await rig.until(agent, state=AgentState.PAUSED)
    assert status.paused_reason is not None
    assert "max_recoveries" in status.paused_reason
    assert status.recoveries == 2
    rig.world.lose_every_exec = False
    await rig.order(agent, "resume")
    assert (await rig.answer(agent, ticket.message_id)).text == "told"


async def test_a_command_stopped_by_a_close_is_cancelled(rig: Rig) -> None:
    rig.world.script = [shell("sleep 1000")]
    rig.world.block_exec = True
    agent = await rig.start()
    await rig.send(agent, "go")
    await rig.world.blocked.wait()
    await rig.order(agent, "close")
    await rig.client.get_workflow_handle(agent.id).result()
    page = await rig.query(agent, "events", 0, result_type=EventsPage)
    assert [event.data["kind"] for event in page.events if event.kind == "command"] == ["cancelled"]
