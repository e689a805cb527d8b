"""A function tool on the real engine, over both wires: a worker of its own, with the SDK alone."""

import json

import pytest

from examples.scripted_model import CallSpec, Conversation, Reply, calls, respond, say
from hibernaut.tools import function_tool, tool_worker
from tests.integration.conftest import LabFactory


@function_tool(task_queue="calculator")
def divide(dividend: int, divisor: int) -> float:
    """Divide two numbers."""
    return dividend / divisor


def _ask(**arguments: object) -> Reply:
    return calls([CallSpec(name="divide", arguments=json.dumps(arguments))])


def _told(conversation: Conversation) -> Reply:
    return say(" | ".join(str(call.error) for call in conversation.calls))


@pytest.mark.parametrize("wire", ["responses", "chat"])
async def test_a_function_is_called_fails_and_is_called_wrongly(lab: LabFactory, wire: str) -> None:
    script = [
        _ask(dividend=1, divisor=4),
        _ask(dividend=1, divisor=0),
        _ask(dividend="one"),
        respond(_told),
    ]
    async with lab(script, wire=wire) as it, tool_worker(it.temporal, [divide]):
        agent = await it.start(functions=[divide.spec])
        reply = await agent.send("go", timeout=60)
        assert "the tool failed: division by zero" in reply.text
        assert "The arguments of the tool divide are invalid" in reply.text
        outputs = [item["output"] for item in await it.items(agent) if "output" in item]
        assert json.loads(str(outputs[0])) == 0.25
        await agent.close()
