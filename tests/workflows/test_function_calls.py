"""Function tools in a turn: an activity of their own on a queue of their own."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from temporalio import activity
from temporalio.api.common.v1 import Payload
from temporalio.common import RawValue
from temporalio.exceptions import ApplicationError
from temporalio.worker import Worker

from hibernaut import contracts as c
from hibernaut.models import AgentState, AgentStatus, ApproveRequest, ToolCall
from hibernaut.tools import function_tool, tool_worker
from tests.workflows.conftest import Rig
from tests.workflows.world import say

CALLED: list[str] = []


@function_tool(task_queue="crm")
async def greet(name: str) -> str:
    """Greet somebody."""
    CALLED.append(name)
    if name == "nobody":
        raise ApplicationError("there is nobody", type="Missing")
    return f"hello {name}"


@function_tool(task_queue="crm", name="greet_again", retry_safe=True, approval=True)
async def flaky(name: str) -> str:
    """Greet somebody who does not listen at first."""
    CALLED.append(name)
    if CALLED.count(name) == 1:
        raise RuntimeError("not now")
    return "x" * 70_000 if name == "long" else f"hello again {name}"


@function_tool(task_queue="empty")
async def lost(name: str) -> str:
    """Greet somebody nowhere."""
    return name


FUNCTIONS = [
    *(tool.spec.model_dump(mode="json") for tool in (greet, flaky)),
    lost.spec.model_dump(mode="json") | {"start_timeout": 1},
]


def call(tool: str, name: str) -> c.ModelReply:
    one = ToolCall(call_id=f"call_{name}", kind="function_call", tool=tool, arguments={"name": name})
    return c.ModelReply(segment_ref="", tool_calls=(one,))


@pytest.fixture(autouse=True)
async def workers(rig: Rig) -> AsyncIterator[Worker]:
    CALLED.clear()
    async with tool_worker(rig.client, [greet, flaky]) as worker:
        yield worker


def result(rig: Rig, request: int) -> c.ToolResult:
    return next(item for item in rig.world.requests[request].new_items if isinstance(item, c.ToolResult))


async def start(rig: Rig, **spec: Any) -> Any:  # noqa: ANN401  # a handle
    return await rig.start(functions=FUNCTIONS, **spec)


async def test_a_function_returns_and_fails_once(rig: Rig) -> None:
    rig.world.script = [call("greet", "ada"), call("greet", "nobody"), say("done")]
    await rig.ask(await start(rig), "go")
    assert (result(rig, 1).output, result(rig, 1).function) == ("hello ada", "greet")
    assert result(rig, 2).error == "the tool failed: there is nobody"
    assert CALLED == ["ada", "nobody"]
    refs = {request.functions_ref for request in rig.world.requests}
    assert len(refs) == 1
    assert None not in refs


async def test_one_that_may_run_again_does_so_after_a_person_consented(rig: Rig) -> None:
    rig.world.script = [call("greet_again", name) for name in ("ada", "ada", "long")]
    rig.world.script.append(say("done"))
    agent = await start(rig)
    ticket = await rig.send(agent, "go")
    status = await rig.until(agent, state=AgentState.WAITING_APPROVAL)
    assert status.waiting is not None
    assert status.waiting.text == 'greet_again(name="ada")'
    handle = rig.client.get_workflow_handle(agent.id)
    await handle.execute_update("approve", ApproveRequest(always=True), result_type=AgentStatus)
    await _called(rig, 3)
    # The same arguments need no consent any more, others do.
    status = await rig.until(agent, state=AgentState.WAITING_APPROVAL, steps=3)
    await handle.execute_update("approve", ApproveRequest(), result_type=AgentStatus)
    await _called(rig, 5)
    await rig.answer(agent, ticket.message_id)
    assert [result(rig, step).output for step in (1, 2)] == ["hello again ada"] * 2
    assert "ask it for less" in (result(rig, 3).error or "")
    assert CALLED == ["ada", "ada", "ada", "long", "long"]


async def _called(rig: Rig, times: int) -> None:
    """Let the time pass until the next attempt of a call that failed."""
    for _ in range(200):
        if len(CALLED) == times:
            return
        await rig.skip(seconds=2)
        await asyncio.sleep(0.02)
    raise AssertionError(CALLED)


async def test_a_queue_without_a_worker_is_told(rig: Rig) -> None:
    rig.world.script = [call("lost", "ada"), say("done")]
    agent = await start(rig)
    ticket = await rig.send(agent, "go")
    await rig.answer(agent, ticket.message_id)
    assert "no worker of the task queue empty" in (result(rig, 1).error or "")


RESULTS: dict[str, Payload] = {
    "surrogate": Payload(metadata={"encoding": b"json/plain"}, data=b'"cut \\ud83d"'),
    "deep": Payload(metadata={"encoding": b"json/plain"}, data=b"[" * 3_000 + b"]" * 3_000),
    "bytes": Payload(metadata={"encoding": b"binary/plain"}, data=b"x"),
    "protobuf": Payload(metadata={"encoding": b"json/protobuf", "messageType": b"a.B"}, data=b"{}"),
    "infinite": Payload(metadata={"encoding": b"json/plain"}, data=b"1e400"),
    "huge": Payload(metadata={"encoding": b"json/plain"}, data=b"1" + b"0" * 400),
    "text": Payload(metadata={"encoding": b"json/plain"}, data=b"nonsense"),
    "null": Payload(metadata={"encoding": b"binary/null"}),
}


@pytest.mark.parametrize("name", RESULTS)
async def test_whatever_a_strangers_activity_returns_the_turn_goes_on(rig: Rig, name: str) -> None:
    @activity.defn(name="greet")
    async def odd(_: dict[str, str]) -> RawValue:
        return RawValue(RESULTS[name])

    functions = [function | {"task_queue": "odd"} for function in FUNCTIONS[:1]]
    rig.world.script = [call("greet", "ada"), say("done")]
    async with Worker(rig.client, task_queue="odd", activities=[odd]):
        agent = await rig.start(functions=functions)
        assert (await rig.ask(agent, "go")).text == "done"
    told = result(rig, 1)
    if name == "surrogate":
        assert told.output == "cut ?"
    elif name == "null":
        assert (told.output, told.error) == (None, None)
    else:
        assert "no plain JSON" in (told.error or "")
