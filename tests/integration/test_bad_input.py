"""What people and models get wrong: a clear error each, the agent usable afterwards, nothing lost."""

import asyncio
from uuid import uuid4

import pytest

from examples.scripted_model import http_error, malformed, say, shell
from hibernaut import AgentClient, AgentSpec
from hibernaut.errors import AgentAlreadyExists, AgentNotFound, AgentPaused, MessageTooLarge, TemporalUnreachable
from hibernaut.models import AgentState
from tests.integration.conftest import LabFactory


async def test_an_unknown_image_names_it_and_says_how_to_mend_it(lab: LabFactory) -> None:
    async with lab([shell("true"), say("done")]) as it:
        agent = await it.start(sandbox={"image": "no-such-image:1"})
        with pytest.raises(AgentPaused, match="no-such-image:1 is not on this host"):
            await agent.send("go", timeout=60)
        status = await agent.status()
        assert status.state is AgentState.PAUSED
        assert status.current_message_id is not None, "the message is not lost"
        await agent.close(timeout=60)


async def test_an_unknown_runtime_is_refused_with_its_name(lab: LabFactory) -> None:
    async with lab([shell("true"), say("done")]) as it:
        agent = await it.start(sandbox={"runtime": "kata"})
        with pytest.raises(AgentPaused, match="kata"):
            await agent.send("go", timeout=60)
        await agent.close(timeout=60)


async def test_a_message_to_nobody(lab: LabFactory) -> None:
    async with lab([]) as it:
        name = f"nobody-{uuid4().hex[:6]}"
        with pytest.raises(AgentNotFound, match=name):
            await it.client.get(name).send("hi", timeout=10)


async def test_a_second_agent_of_the_same_name(lab: LabFactory) -> None:
    async with lab([say("one"), say("two")]) as it:
        agent = await it.start()
        with pytest.raises(AgentAlreadyExists, match=agent.id):
            await it.client.start(agent.id, AgentSpec(model=it.model.model))
        assert (await agent.send("hi", timeout=30)).text == "one"
        await agent.close()


async def test_a_message_over_the_limit(lab: LabFactory) -> None:
    async with lab([say("fine")]) as it:
        agent = await it.start()
        with pytest.raises(MessageTooLarge, match=r"1000000|1,000,000"):
            await agent.send("x" * 1_000_001, timeout=10)
        assert (await agent.send("x" * 999_999, timeout=30)).text == "fine"
        await agent.close()


@pytest.mark.parametrize("arguments", ["{not json", '{"commands": "ls"}', '{"commands": []}', "[]"])
async def test_malformed_tool_arguments_are_told_to_the_model(lab: LabFactory, arguments: str) -> None:
    async with lab([malformed(arguments), say("sorry")], wire="chat") as it:
        agent = await it.start()
        assert (await agent.send("go", timeout=30)).text == "sorry"
        outputs = [item for item in await it.items(agent) if item.get("type") == "function_call_output"]
        assert "commands" in str(outputs[0]["output"])
        await agent.close()


async def test_a_rejected_request_pauses_with_the_providers_reason_and_resumes(lab: LabFactory) -> None:
    broken = http_error(400, body={"error": {"message": "no such parameter", "type": "invalid_request_error"}})
    async with lab([broken, say("better")]) as it:
        agent = await it.start()
        ticket = await agent.post("go")
        with pytest.raises(AgentPaused, match="no such parameter"):
            await agent.wait(ticket.message_id, timeout=30)
        await agent.resume()
        assert (await agent.wait(ticket.message_id, timeout=30)).text == "better"
        await agent.close()


async def test_an_unreachable_temporal_is_a_sentence_within_seconds() -> None:
    async with asyncio.timeout(20):
        with pytest.raises(TemporalUnreachable, match=r"127\.0\.0\.1:9"):
            await AgentClient.connect(address="127.0.0.1:9")
