"""A firing that waits for a person while the worker is upgraded: no build is kept for its sake."""

import pytest

from hibernaut import AgentClient
from hibernaut.models import AgentState, AnswerState
from hibernaut.models.schedules import FiringState, ScheduleStatus
from tests.integration.schedule_desk import NEVER, until
from tests.replay.schedules import scheduling
from tests.support.builds import builds
from tests.workflows.world import World, say


@pytest.mark.slow
async def test_an_open_firing_goes_over_to_the_next_build() -> None:
    async with builds() as server:
        old, new = World(), World()
        rig = server.rig(old)
        activities = scheduling(rig.client)
        schedules = AgentClient.over(rig.client).schedules
        async with server.build("1", old, more=activities):
            await server.make_current("1")
            agent = await rig.start()
            await rig.order(agent, "pause", "lunch")
            schedule = await schedules.create("weekly", cron=NEVER, message="go", agent=agent.id)
            await schedule.trigger()

            async def waits() -> bool:
                recent = (await schedule.describe()).recent
                return bool(recent) and "is paused: lunch" in recent[0].text

            await until(waits)
            async with server.build("2", new, more=activities):
                await server.make_current("2")
                # While the firing is open: nobody waits for its end before the old worker is stopped.
                await server.drained("1")
        async with server.build("2", new, more=activities):
            new.script = [say("on the new build")]
            await rig.order(agent, "resume")

            async def done() -> ScheduleStatus | None:
                status = await schedule.describe()
                return status if status.recent[0].state is FiringState.DONE else None

            firing = (await until(done, 60)).recent[0]
            assert firing.text == "on the new build"
            assert firing.message_id is not None
            assert (await rig.answer(agent, firing.message_id)).state is AnswerState.DONE
            assert (await rig.status(agent)).state is AgentState.IDLE
            await schedule.delete()
