"""What tests of people and tools share: replies that call a tool, and what people say."""

import asyncio
from typing import Any

from pydantic import JsonValue
from temporalio.client import WorkflowHandle

from hibernaut import contracts as c
from hibernaut.models import AgentState, AgentStatus, SendRequest, Ticket, ToolCall
from tests.workflows.conftest import Rig

Agent = WorkflowHandle[Any, Any]
ALWAYS: dict[str, JsonValue] = {"policy": "always"}


def tool(name: str, call_id: str = "call_1", **arguments: JsonValue) -> c.ModelReply:
    """A reply with one call of a tool."""
    call = ToolCall(call_id=call_id, kind="function_call", tool=name, arguments=arguments)
    return c.ModelReply(segment_ref="", tool_calls=(call,))


async def tell(rig: Rig, agent: Agent, name: str, request: object) -> AgentStatus:
    handle = rig.client.get_workflow_handle(agent.id)
    return await handle.execute_update(name, request, result_type=AgentStatus)


async def post(rig: Rig, agent: Agent, text: str, message_id: str, delivery: str) -> Ticket:
    request = SendRequest.model_validate({"text": text, "message_id": message_id, "delivery": delivery})
    return await rig.client.get_workflow_handle(agent.id).execute_update("send", request, result_type=Ticket)


def result(rig: Rig, request: int) -> c.ToolResult:
    return next(item for item in rig.world.requests[request].new_items if isinstance(item, c.ToolResult))


def output(rig: Rig, request: int) -> dict[str, JsonValue]:
    """What a tool told the model."""
    found = result(rig, request).output
    assert isinstance(found, dict)
    return found


async def waiting(rig: Rig, agent: Agent) -> AgentStatus:
    return await rig.until(agent, state=AgentState.WAITING_APPROVAL)


async def asleep(rig: Rig, agent: Agent) -> None:
    for _ in range(300):
        if (await rig.status(agent)).waiting is not None:
            return
        await asyncio.sleep(0.02)
    raise AssertionError("it never waited")
