"""Child agents on the real engine: containers of their own, a copy's files, nothing left when they have ended."""

import json

import pytest

from examples.scripted_model import CallSpec, Conversation, Reply, calls, say, shell
from hibernaut.models import AgentState, ChildState, EventKind
from tests.integration.conftest import LabFactory

TASK = "what is in the file"


def _start(**arguments: object) -> Reply:
    return calls([CallSpec(name="start_agent", arguments=json.dumps({"task": TASK, **arguments}))])


def _family(seen: Conversation) -> Reply:
    done = seen.turn_calls
    if seen.last_user == TASK:
        return [
            shell("cat ~/f 2>/dev/null || echo none; echo theirs > ~/f"),
            say(done[-1].results[0].stdout.strip() if done else ""),
        ][len(done)]
    steps = [
        shell("echo mine > ~/f"),
        _start(computer="copy", name="twin"),
        _start(),
        shell("cat ~/f"),
        say("done"),
    ]
    return steps[len(done)]


@pytest.mark.slow
async def test_a_copy_reads_the_file_and_a_new_one_does_not(lab: LabFactory) -> None:
    async with lab(_family) as it:
        agent = await it.start(tools=["start_agent"], idle_timeout=60)
        assert (await agent.send("go", timeout=120)).text == "done"
        outputs = [str(item["output"]) for item in await it.items(agent) if str(item["type"]).endswith("_output")]
        told = [json.loads(output) for output in outputs[1:3]]
        assert [one["state"] for one in told] == ["done", "done"]
        assert told[0]["answer"] == "mine"
        assert told[1]["answer"] == "none"
        assert "mine" in outputs[3], "the copy's own file is not this agent's"
        status = await agent.status()
        assert [(one.state, one.computer) for one in status.children] == [
            (ChildState.DONE, "copy"),
            (ChildState.DONE, "new"),
        ]
        spent = (await agent.budget.status()).spent.life
        assert spent.steps == 9, "five of its own, two of each child"
        children = await agent.children()
        assert {child.id for child in children} == {one.agent_id for one in status.children}
        for child in children:
            assert (await child.status()).state is AgentState.CLOSED
            assert await it.containers(child) == []
        listed = {one.agent_id: one.parent async for one in it.client.list()}
        assert {listed[child.id] for child in children} == {agent.id}
        assert listed[agent.id] is None
        kinds = [event.kind async for event in agent.events(follow=False)]
        assert kinds.count(EventKind.CHILD_STARTED) == kinds.count(EventKind.CHILD_ENDED) == 2
        await agent.delete()
        left = {one.agent_id async for one in it.client.list()}
        assert left.isdisjoint({agent.id, *(child.id for child in children)})
