"""Compaction on real servers: a conversation longer than the window, over a hibernation, with nothing pinned lost."""

import json

import pytest

from examples.scripted_model import Conversation, Reply, respond, say, shell
from hibernaut.models import EventKind
from tests.integration.conftest import LabFactory

WINDOW = 3_000
PASSWORD = "Whatever happens: the harbour is called Skagen."


def _mind(conversation: Conversation) -> Reply:
    if any(note.startswith("You keep the memory") for note in conversation.notes):
        return say("## Open tasks\nwrite the report\n## Done\nlooked around")
    return say("so it is") if conversation.turn_calls else shell("echo on >> /root/log; wc -l < /root/log")


@pytest.mark.slow
@pytest.mark.parametrize("wire", ["responses", "chat"])
async def test_a_long_conversation_is_compacted_and_goes_on(lab: LabFactory, wire: str) -> None:
    async with lab(respond(_mind), wire=wire, window=str(WINDOW)) as it:
        agent = await it.start(instructions=PASSWORD)
        for number in range(9):
            await agent.send(f"{number}: " + "and then what happened? " * 80, timeout=60)
            if number == 6:
                await agent.hibernate(timeout=60)
        status = await agent.status()
        assert status.compactions >= 2
        asked = [json.dumps(request.body) for request in it.model.requests]
        assert all(PASSWORD in body for body in asked if "You keep the memory" not in body)
        assert all(request.status == 200 for request in it.model.requests)
        assert "write the report" in asked[-1]
        newest = agent.events(status.last_event - 30, follow=False)
        told = [event.data async for event in newest if event.kind is EventKind.COMPACTED]
        assert "write the report" in str(told[-1]["summary_head"])
        # What was said is all there.
        said = json.dumps(await it.items(agent))
        assert all(f"{number}: and then" in said for number in range(9))
        await agent.close()
