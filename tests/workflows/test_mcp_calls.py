"""Tools of MCP servers in a turn: run at most once unless the spec says otherwise; told whatever becomes of them."""

import asyncio

import pytest
from pydantic import JsonValue
from temporalio.exceptions import ActivityError, ApplicationError, TimeoutError as Expired, TimeoutType

from hibernaut import contracts as c
from hibernaut.models import AgentState, ApproveRequest, EventKind, EventsPage
from hibernaut.models.mcp import McpSpec
from tests.workflows.conftest import Rig
from tests.workflows.tool_calls import result, tell, tool, waiting
from tests.workflows.world import say
from workflows.mcp import McpTool


def returns(output: JsonValue) -> c.McpCallResult:
    return c.McpCallResult(output=output)


def fails(kind: str, message: str = "why") -> ApplicationError:
    return ApplicationError(message, type=kind)


SPEC: list[JsonValue] = [{"server": "crm", "retry_safe": ["find"], "approval": ["drop.all"], "timeout": 7}]


async def test_what_a_tool_returns_and_how_it_fails_is_told(rig: Rig) -> None:
    rig.world.script = [tool("crm__add", n=1), tool("crm__add"), tool("crm__add"), say("done")]
    rig.world.tool_results = [returns({"total": 3}), c.McpCallResult(error="no such n"), returns(None)]
    agent = await rig.start(mcp=SPEC)
    assert (await rig.ask(agent, "go")).text == "done"
    assert (result(rig, 1).output, result(rig, 1).function) == ({"total": 3}, "crm__add")
    assert result(rig, 2).error == "the tool failed: no such n"
    assert (result(rig, 3).output, result(rig, 3).error, result(rig, 3).function) == (None, None, "crm__add")
    request = rig.world.tool_calls[0]
    assert (request.server, request.tool, request.arguments) == ("crm", "crm__add", {"n": 1})
    assert request.timeout.total_seconds() == 7
    assert rig.world.requests[0].mcp == (c.McpOffer(server="crm"),)
    page = await rig.query(agent, "events", 0, result_type=EventsPage)
    ends = [event.data["end"] for event in page.events if event.kind is EventKind.TOOL]
    assert ends == ["returned", "failed", "returned"]


@pytest.mark.parametrize(("kind", "told"), [
    (c.MCP_UNAVAILABLE, "not run: why"),
    (c.MCP_REJECTED, "not run: why"),
    (c.MCP_CALL_UNKNOWN, "unknown: why; it may or may not have taken effect"),
    ("RuntimeError", "the tool failed: why"),
])  # fmt: skip
async def test_a_call_that_is_not_known_to_be_harmless_is_tried_once(rig: Rig, kind: str, told: str) -> None:
    rig.world.script = [tool("crm__add"), say("done")]
    rig.world.tool_results = [fails(kind)]
    await rig.ask(await rig.start(mcp=SPEC), "go")
    assert result(rig, 1).error == told
    assert len(rig.world.tool_calls) == 1


async def test_one_that_may_run_again_does_so(rig: Rig) -> None:
    rig.world.script = [tool("crm__find"), say("done")]
    rig.world.tool_results = [fails(c.MCP_CALL_UNKNOWN), returns("found")]
    agent = await rig.start(mcp=SPEC)
    ticket = await rig.send(agent, "go")
    for _ in range(200):
        if len(rig.world.tool_calls) == 2:
            break
        await rig.skip(seconds=2)
        await asyncio.sleep(0.02)
    await rig.answer(agent, ticket.message_id)
    assert result(rig, 1).output == "found"


async def test_a_tool_that_asks_waits_for_consent_under_its_offered_name(rig: Rig) -> None:
    rig.world.script = [tool("crm__drop_all"), say("done")]
    rig.world.tool_results = [returns("dropped")]
    agent = await rig.start(mcp=SPEC)
    ticket = await rig.send(agent, "go")
    status = await waiting(rig, agent)
    assert status.waiting is not None
    assert status.waiting.text == "crm__drop_all()"
    assert not rig.world.tool_calls
    await tell(rig, agent, "approve", ApproveRequest())
    await rig.answer(agent, ticket.message_id)
    assert result(rig, 1).output == "dropped"


async def test_a_rule_of_the_policy_names_a_tool_of_a_server(rig: Rig) -> None:
    rules = [{"tool": "crm__add", "then": "deny"}]
    rig.world.script = [tool("crm__add"), say("done")]
    agent = await rig.start(mcp=SPEC, approval={"policy": "rules", "default": "allow", "rules": rules})
    await rig.ask(agent, "go")
    assert "denies" in (result(rig, 1).error or "")
    assert not rig.world.tool_calls


async def test_an_interrupt_cancels_the_call(rig: Rig) -> None:
    rig.world.script = [tool("crm__add"), say("later")]
    rig.world.block_tool = True
    agent = await rig.start(mcp=SPEC)
    ticket = await rig.send(agent, "go")
    await rig.world.tool_blocked.wait()
    await rig.order(agent, "interrupt")
    await rig.answer(agent, ticket.message_id)
    for _ in range(100):
        if rig.world.tool_cancelled:
            break
        await asyncio.sleep(0.02)
    assert rig.world.tool_cancelled
    await rig.until(agent, state=AgentState.IDLE)
    await rig.ask(agent, "and now?")
    assert "interrupted" in (result(rig, 1).error or "")


def test_a_call_whose_worker_died_is_unknown() -> None:
    lost = Expired("no heartbeat", type=TimeoutType.HEARTBEAT, last_heartbeat_details=[])
    error = ActivityError(
        "failed",
        scheduled_event_id=1,
        started_event_id=2,
        identity="worker",
        activity_type=c.MCP_CALL.name,
        activity_id="1",
        retry_state=None,
    )
    error.__cause__ = lost
    told, end = McpTool(McpSpec(server="crm"), "crm__add").told(error) or ("", "")
    assert (told, end) == (
        "unknown: the worker that ran the call was lost; it may or may not have taken effect",
        "unknown",
    )


async def test_results_that_are_too_much_together_are_refused(rig: Rig) -> None:
    calls = [tool("crm__add", f"call_{number}").tool_calls[0] for number in range(6)]
    rig.world.script = [c.ModelReply(segment_ref="", tool_calls=tuple(calls)), say("done")]
    rig.world.tool_results = [returns("x" * 60_000) for _ in calls]
    await rig.ask(await rig.start(mcp=SPEC), "go")
    told = [item.error for item in rig.world.requests[1].new_items if isinstance(item, c.ToolResult)]
    assert told[:4] == [None] * 4
    assert "too much together" in (told[-1] or "")
