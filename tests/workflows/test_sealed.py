"""A snapshot that is sealed with a key which a worker lacks: nobody goes on from an older one."""

from temporalio.exceptions import ApplicationError

from hibernaut.models import AgentState
from tests.workflows.conftest import Rig
from tests.workflows.world import say, shell


def sealed() -> ApplicationError:
    return ApplicationError("It is sealed with the key 0123456789abcdef", type="SnapshotSealed", non_retryable=True)


async def test_an_agent_waits_for_the_key_of_its_snapshot(rig: Rig) -> None:
    rig.world.script = [shell("one"), shell("two"), say("done"), shell("three"), say("here again")]
    agent = await rig.start()
    await rig.ask(agent, "go")
    await rig.order(agent, "hibernate")
    await rig.until(agent, state=AgentState.HIBERNATED)
    rig.world.restore_errors = [sealed()]
    ticket = await rig.send(agent, "go on")
    status = await rig.until(agent, state=AgentState.PAUSED)
    assert status.paused_reason == "no sandbox: It is sealed with the key 0123456789abcdef"
    assert status.snapshot is not None
    assert status.snapshot.number == 3
    # Somebody brings the key.
    await rig.order(agent, "resume")
    assert (await rig.answer(agent, ticket.message_id)).text == "here again"
    assert {request.ref for request in rig.world.restored} == {"snapshot-3"}
    assert (await rig.status(agent)).recoveries == 0
