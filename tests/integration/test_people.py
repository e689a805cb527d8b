"""People in the loop on the real engine, over both wires, with real containers."""

import json

import pytest

from examples.scripted_model import CallSpec, Conversation, Reply, calls, respond, say, shell
from hibernaut import PersonNeeded
from hibernaut.errors import RequestRejected
from hibernaut.models import AgentState, ApprovalRule, ApprovalSpec, EventKind, WaitKind
from tests.integration.conftest import LabFactory

ASKS_FOR_CAT = ApprovalSpec(policy="rules", rules=(ApprovalRule(command="cat", then="ask"),), default="allow")


def _tool(name: str, **arguments: object) -> Reply:
    return calls([CallSpec(name=name, arguments=json.dumps(arguments))])


def _told(conversation: Conversation) -> Reply:
    return say("|".join(f"{result.exit_code}:{result.stdout.strip()}" for result in conversation.calls[-1].results))


def _error(conversation: Conversation) -> Reply:
    return say(str(conversation.calls[-1].error))


@pytest.mark.parametrize("wire", ["responses", "chat"])
@pytest.mark.slow
async def test_consent_given_while_the_agent_sleeps(lab: LabFactory, wire: str) -> None:
    script = [shell("echo kept > /root/kept"), shell("cat /root/kept"), respond(_told)]
    async with lab(script, wire=wire) as it:
        agent = await it.start(approval=ASKS_FOR_CAT)
        with pytest.raises(PersonNeeded) as needed:
            await agent.send("go", message_id="m1", timeout=60, until_asked=True)
        assert needed.value.waiting.text == "cat /root/kept"
        await agent.hibernate(timeout=60)
        assert await it.containers(agent) == []
        assert (await agent.status()).state is AgentState.WAITING_APPROVAL
        await agent.approve(needed.value.waiting.call_id, by="ada")
        assert (await agent.wait("m1", timeout=60)).text == "0:kept"
        with pytest.raises(RequestRejected, match="decided it already"):
            await agent.approve()
        decided = [event async for event in agent.events(follow=False) if event.kind is EventKind.DECIDED]
        assert [event.data["by"] for event in decided] == ["ada"]
        await agent.close()


@pytest.mark.parametrize("wire", ["responses", "chat"])
async def test_a_question_a_wait_and_a_tool_there_is_not(lab: LabFactory, wire: str) -> None:
    script = [
        _tool("ask_human", question="Which one?", choices=["left", "right"]),
        _tool("sleep", seconds=1),
        _tool("sleep", minutes=1),
        respond(lambda talk: _tool("nap") if "seconds" in str(talk.calls[-1].error) else say("no complaint")),
        respond(_error),
    ]
    async with lab(script, wire=wire) as it:
        agent = await it.start()
        ticket = await agent.post("go")
        with pytest.raises(PersonNeeded, match=r"left \| right"):
            await agent.wait(ticket.message_id, timeout=60, until_asked=True)
        waiting = (await agent.status()).waiting
        assert waiting is not None
        assert waiting.kind is WaitKind.QUESTION
        await agent.respond("left", by="ada")
        reply = await agent.wait(ticket.message_id, timeout=60)
        assert "There is no tool named 'nap'" in reply.text
        outputs = [str(item.get("output")) for item in await it.items(agent) if "output" in item]
        assert json.loads(outputs[0]) == {"answer": "left", "answered_by": "ada"}
        assert json.loads(outputs[1])["ended_by"] == "time"
        await agent.close()


@pytest.mark.slow
async def test_a_message_steers_a_running_command(lab: LabFactory) -> None:
    script = [shell("sleep 3; echo slept"), respond(lambda talk: say(talk.last_user))]
    async with lab(script) as it:
        agent = await it.start()
        first = await agent.post("go")
        async for event in agent.events():
            if event.kind is EventKind.REPLY:
                break
        assert (await agent.send("the other way", delivery="steer", timeout=60)).text == "the other way"
        assert (await agent.wait(first.message_id, timeout=60)).turn == 1
        await agent.close()


@pytest.mark.slow
async def test_consent_survives_the_worker_and_the_container(lab: LabFactory) -> None:
    script = [shell("echo kept > /root/kept"), shell("cat /root/kept"), respond(_told), respond(_told)]
    async with lab(script) as it:
        agent = await it.start(approval=ASKS_FOR_CAT)
        with pytest.raises(PersonNeeded):
            await agent.send("go", message_id="m1", timeout=60, until_asked=True)
    async with lab(script) as it:
        await it.client.get(agent.id).approve()
        assert (await agent.wait("m1", timeout=60)).text == "0:kept"
    again = [shell("echo more >> /root/kept"), shell("cat /root/kept"), respond(_told)]
    async with lab(again) as it:
        agent = await it.start(approval=ASKS_FOR_CAT)
        with pytest.raises(PersonNeeded):
            await agent.send("go", message_id="m1", timeout=60, until_asked=True)
        for container in await it.containers(agent):
            it.remove(container)
        await agent.approve()
        # What a person consented to was decided on a computer that is gone: the model hears of it first.
        assert (await agent.wait("m1", timeout=60)).text.startswith("253:")
        await agent.close()
