"""A child that waits while the worker is upgraded: no build is kept for what sees to it."""

import pytest

from hibernaut.contracts import ModelReply
from hibernaut.models import AgentState, ToolCall
from tests.support.builds import builds
from tests.workflows.child_rig import FamilyRig, FamilyWorld, child_activities, start
from tests.workflows.tool_calls import post
from tests.workflows.world import say


def _sleep() -> ModelReply:
    call = ToolCall(call_id="call_1", kind="function_call", tool="sleep", arguments={"seconds": 86_400.0, "reason": ""})
    return ModelReply(segment_ref="", tool_calls=(call,))


@pytest.mark.slow
async def test_what_sees_to_a_child_goes_over_to_the_next_build() -> None:
    async with builds() as server:
        world = FamilyWorld()
        world.scripts = {"go": [start("work"), say("done")], "work": [_sleep(), say("worked")]}
        rig = FamilyRig(server.environment, world)
        activities = child_activities(rig.client)
        async with server.build("1", world, more=activities):
            await server.make_current("1")
            agent = await rig.start_parent(idle_timeout=0.2)
            ticket = await rig.send(agent, "go")
            child = rig.client.get_workflow_handle((await rig.child(agent)).agent_id)

            async def begun() -> bool | None:
                return "work" in world.speakers or None

            await rig.eventually(begun)
            await rig.until(child, state=AgentState.HIBERNATED, lease=None)
            await rig.until(agent, state=AgentState.HIBERNATED, lease=None)
            async with server.build("2", world, more=activities):
                await server.make_current("2")
                # While the child is at work: nobody waits for its end before the old worker is stopped.
                await server.drained("1")
        async with server.build("2", world, more=activities):
            await post(rig, child, "it is tomorrow", "m2", "steer")
            assert (await rig.answer(agent, ticket.message_id)).text == "done"
            assert world.told("go", 1)["answer"] == "worked"
