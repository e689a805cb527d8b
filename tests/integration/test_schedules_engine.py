"""Schedules on the whole engine: real worker, store and containers."""

from datetime import timedelta
from uuid import uuid4

import pytest

from examples.scripted_model import say, shell
from hibernaut.contracts.schedules import firing_agent_id
from hibernaut.errors import AgentNotFound
from hibernaut.models.schedules import FiringState, ScheduleStatus
from hibernaut.schedules import ScheduleHandle
from tests.integration.conftest import LabFactory
from tests.integration.schedule_desk import HOURS, NEVER, until


async def _done(schedule: ScheduleHandle, firings: int) -> ScheduleStatus:
    async def look() -> ScheduleStatus | None:
        status = await schedule.describe()
        assert FiringState.FAILED not in {one.state for one in status.recent}, status.recent
        done = [one for one in status.recent if one.state is FiringState.DONE]
        return status if len(done) == firings else None

    return await until(look, 120)


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_one_agent_goes_on_and_fresh_ones_come_and_go(lab: LabFactory) -> None:
    work = [shell("echo 1 >> /root/runs; wc -l < /root/runs"), say("done")]
    async with lab([*work, *work, *work, *work]) as it:
        schedules = it.client.schedules
        agent = await it.start()
        same = await schedules.create(f"same-{uuid4().hex[:6]}", cron=NEVER, agent=agent.id, message="go")
        await same.trigger()
        await _done(same, 1)
        await agent.hibernate(timeout=60)
        await same.trigger()
        await _done(same, 2)
        await agent.hibernate(timeout=60)
        outputs = [str(item) for item in await it.items(agent) if item.get("type") == "shell_call_output"]
        assert ["'stdout': '1" in outputs[0], "'stdout': '2" in outputs[1]] == [True, True], outputs

        spec = {"model": it.model.model, "idle_timeout": 300}
        name = f"fresh-{uuid4().hex[:6]}"
        fresh = await schedules.create(name, cron="0 * * * *", spec=spec, message="go", keep=1, paused=True)
        await fresh.backfill(HOURS, HOURS + timedelta(hours=1))
        status = await _done(fresh, 2)
        old, new = (firing_agent_id(name, HOURS + timedelta(hours=hour)) for hour in range(2))
        assert [one.agent_id for one in status.recent] == [new, old]
        assert (await it.client.get(new).status()).lease is None

        async def gone() -> bool:
            try:
                await it.client.get(old).status()
            except AgentNotFound:
                return True
            return False

        await until(gone, 60)
        for schedule in (same, fresh):
            await schedule.delete()
