"""Scenarios with people in the loop, function tools, MCP servers and a published file."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

from temporalio.client import WorkflowHandle
from temporalio.exceptions import ApplicationError

from hibernaut import contracts as c
from hibernaut.models import AgentState, AgentStatus, ApproveRequest, DenyRequest, RespondRequest, SendRequest, Ticket
from hibernaut.models.functions import FunctionSpec
from tests.workflows.conftest import Rig
from tests.workflows.tool_calls import tool
from tests.workflows.world import say, shell

Agent = WorkflowHandle[Any, Any]


async def asked(rig: Rig) -> Agent:
    """Consent given and refused, a question answered in sleep, a nap, a file published, a turn steered."""
    rules = [
        {"command": "safe", "then": "allow"},
        {"command": "wrong", "then": "deny"},
        {"tool": "publish", "then": "allow"},
    ]
    rig.world.script = [
        *(shell("safe"), shell("make"), shell("wrong"), shell("other")),
        *(tool("ask_human", question="why?"), tool("sleep", seconds=1), tool("publish", path="/x")),
        *(say("not yet"), say("one")),
    ]
    agent = await rig.start(idle_timeout=1, approval={"policy": "rules", "rules": rules})
    handle = rig.client.get_workflow_handle(agent.id)
    await rig.send(agent, "go", "m1")
    await rig.until(agent, state=AgentState.WAITING_APPROVAL, steps=2)
    await handle.execute_update("approve", ApproveRequest(always=True), result_type=AgentStatus)
    await rig.until(agent, state=AgentState.WAITING_APPROVAL, steps=4)
    await handle.execute_update("deny", DenyRequest(reason="no"), result_type=AgentStatus)
    await rig.until(agent, state=AgentState.WAITING_APPROVAL, steps=5, lease=None)
    await handle.execute_update("respond", RespondRequest(text="because"), result_type=AgentStatus)
    steer = SendRequest(text="left", message_id="m2", delivery="steer")
    await handle.execute_update("send", steer, result_type=Ticket)
    await rig.answer(agent, "m1")
    return agent


async def served(rig: Rig) -> Agent:
    """A function tool nobody serves, one that needs consent nobody gives, a turn interrupted in a wait."""
    functions = [
        FunctionSpec(name=name, description="d", task_queue="empty", start_timeout=timedelta(seconds=1), approval=asks)
        for name, asks in (("lost", False), ("kept", True))
    ]
    rig.world.script = [tool("lost"), tool("kept"), tool("sleep", seconds=1000), say("later")]
    agent = await rig.start(
        functions=[function.model_dump(mode="json") for function in functions],
        approval={"policy": "rules", "default": "allow", "timeout": 1},
    )
    await rig.send(agent, "go", "m1")
    for _ in range(600):
        status = await rig.status(agent)
        if status.waiting is not None and status.waiting.tool == "sleep":
            break
        await asyncio.sleep(0.02)
    urgent = SendRequest(text="now", message_id="m2", delivery="interrupt")
    handle = rig.client.get_workflow_handle(agent.id)
    await handle.execute_update("send", urgent, result_type=Ticket)
    await rig.answer(agent, "m2")
    return agent


async def linked(rig: Rig) -> Agent:
    """Tools of an MCP server: one returns, one is tried again, one fails, one waits for consent, one is interrupted."""
    rig.world.script = [
        *(tool("crm__add", n=1), tool("crm__find"), tool("crm__add"), tool("crm__drop")),
        *(say("one"), tool("crm__add"), say("two")),
    ]
    unknown = ApplicationError("lost", type=c.MCP_CALL_UNKNOWN)
    ok = c.McpCallResult(output={"ok": True})
    rig.world.tool_results = [ok, unknown, ok, c.McpCallResult(error="no"), unknown]
    spec = {"server": "crm", "retry_safe": ["find"], "approval": ["drop"]}
    agent = await rig.start(mcp=[spec])
    handle = rig.client.get_workflow_handle(agent.id)
    await rig.send(agent, "go", "m1")
    await rig.until(agent, state=AgentState.WAITING_APPROVAL)
    await handle.execute_update("approve", ApproveRequest(), result_type=AgentStatus)
    await rig.answer(agent, "m1")
    rig.world.block_tool = True
    await rig.send(agent, "go on", "m2")
    await rig.world.tool_blocked.wait()
    await rig.order(agent, "interrupt")
    await rig.answer(agent, "m2")
    await rig.ask(agent, "and now?")
    return agent


ASKING: tuple[Callable[[Rig], Awaitable[Agent]], ...] = (asked, served, linked)
