"""The main job on real servers: an agent with a shell that outlives its container."""

import json

import pytest

from examples.scripted_model import Conversation, Reply, refuse, respond, say, shell
from hibernaut.errors import ModelRefused
from hibernaut.models import AgentState, EventKind
from tests.integration.conftest import LabFactory


def _outputs(conversation: Conversation) -> str:
    return "".join(result.stdout for result in conversation.calls[-1].results)


def _tell(conversation: Conversation) -> Reply:
    return say(_outputs(conversation).strip())


@pytest.mark.parametrize("wire", ["responses", "chat"])
async def test_a_turn_with_commands(lab: LabFactory, wire: str) -> None:
    script = [shell("cd /tmp && export GREETING=hello && echo data > file.txt", "pwd"), respond(_tell)]
    async with lab(script, wire=wire) as it:
        agent = await it.start()
        reply = await agent.send("go", timeout=60)
        assert reply.text == "/tmp"
        status = await agent.status()
        assert status.snapshot is not None
        assert status.lease is not None
        await agent.close()
        assert await it.containers(agent) == []


async def test_files_directory_and_variables_survive_hibernation(lab: LabFactory) -> None:
    script = [
        shell("mkdir -p /srv/work && cd /srv/work && export TOKEN='a b' && echo kept > note.txt && rm /etc/motd"),
        say("stored"),
        shell('echo "$PWD|$TOKEN|$(cat note.txt)|$(ls /etc/motd 2>&1 | wc -l)"; ls /etc/motd'),
        respond(_tell),
    ]
    async with lab(script) as it:
        agent = await it.start()
        await agent.send("store", timeout=60)
        first = await agent.status()
        await agent.hibernate(timeout=60)
        assert await it.containers(agent) == []
        assert (await agent.status()).state is AgentState.HIBERNATED
        reply = await agent.send("read", timeout=60)
        assert reply.text == "/srv/work|a b|kept|1"
        second = await agent.status()
        assert first.lease is not None
        assert second.lease is not None
        assert second.lease.generation == first.lease.generation + 1
        assert second.lease.sandbox_id != first.lease.sandbox_id
        notes = [item for item in await it.items(agent) if item.get("role") == "developer"]
        assert any("restored from snapshot" in json.dumps(note) for note in notes)
        await agent.close()


async def test_a_container_removed_behind_its_back(lab: LabFactory) -> None:
    def again(conversation: Conversation) -> Reply:
        result = conversation.calls[-1].results[0]
        return shell("cat /root/state") if result.exit_code == 253 else say("unexpected")

    saving = [shell("echo important > /root/state"), say("saved")]
    script = [*saving, shell("cat /root/state"), respond(again), respond(_tell)]
    async with lab(script) as it:
        agent = await it.start()
        await agent.send("save", timeout=60)
        (container,) = await it.containers(agent)
        it.remove(container)
        reply = await agent.send("read it", timeout=60)
        assert reply.text == "important"
        status = await agent.status()
        assert status.recoveries == 1
        assert status.last_recovery is not None
        assert status.last_recovery.lost_commands == ()
        told = json.dumps(await it.items(agent))
        assert "recovery report" in told
        assert "restored from snapshot" in told
        await agent.close()
        assert await it.containers(agent) == []


async def test_a_timeout_a_failure_and_a_flood_are_told_as_what_they_are(lab: LabFactory) -> None:
    script = [
        shell("echo before; sleep 30", timeout_ms=500),
        shell("echo oops >&2; exit 7"),
        shell("seq 1 200000", max_output_length=400),
        say("seen"),
    ]
    async with lab(script) as it:
        agent = await it.start()
        await agent.send("go", timeout=60)
        outcomes = [event.data async for event in agent.events(follow=False) if event.kind is EventKind.COMMAND]
        assert [(one["kind"], one["exit_code"]) for one in outcomes] == [("timeout", None), ("exit", 7), ("exit", 0)]
        assert outcomes[2]["truncated"] is True
        calls = [item for item in await it.items(agent) if item.get("type") == "shell_call_output"]
        timeout, failure, flood = [json.loads(json.dumps(call["output"]))[0] for call in calls]
        assert timeout["outcome"] == {"type": "timeout"}
        assert timeout["stdout"] == "before\n"
        assert failure["outcome"] == {"type": "exit", "exit_code": 7}
        assert failure["stderr"] == "oops\n"
        assert flood["stdout"].startswith("1\n2\n")
        assert flood["stdout"].endswith("199999\n200000\n")
        assert "bytes left out" in flood["stdout"]
        await agent.close()


async def test_a_refusal_is_an_error_and_the_agent_goes_on(lab: LabFactory) -> None:
    async with lab([refuse("I would rather not."), say("gladly")]) as it:
        agent = await it.start()
        with pytest.raises(ModelRefused, match="rather not"):
            await agent.send("bad", timeout=30)
        assert (await agent.send("good", timeout=30)).text == "gladly"
        await agent.close()
