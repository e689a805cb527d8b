"""Changing a schedule: what is given and nothing else, whoever changes it at the same time."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest
from temporalio.api.schedule.v1 import Schedule as RawSchedule
from temporalio.client import Client, ScheduleDescription
from temporalio.testing import WorkflowEnvironment

from hibernaut import _schedule_change
from hibernaut.contracts.schedules import firing_message_id
from hibernaut.errors import AgentNotFound, InvalidSpec
from hibernaut.models.schedules import FiringState, OverlapPolicy, ScheduleStatus
from hibernaut.schedules import InvalidSchedule, ScheduleNotFound
from tests.integration.schedule_desk import Desk, open_desk, until

DONE, RUNNING = FiringState.DONE, FiringState.RUNNING
KEPT = {"next", "recent", "firings"}


@pytest.fixture
async def desk(agents_server: WorkflowEnvironment) -> AsyncIterator[Desk]:
    async with open_desk(agents_server.client) as desk:
        yield desk


def _told(status: ScheduleStatus) -> dict[str, object]:
    return status.model_dump(exclude=KEPT)


async def test_only_what_is_given_is_different(desk: Desk) -> None:
    agent = await desk.agent()
    schedule = await desk.schedule(agent=agent.id, cron="0 9 * * MON", timezone="Europe/Berlin", note="weekly")
    expected = _told(await schedule.describe())
    changes: list[dict[str, object]] = [
        {"message": "report"},
        {"cron": "30 7 * * *"},
        {"timezone": "America/New_York"},
        {"overlap": OverlapPolicy.SKIP},
        {"catchup_window": timedelta(minutes=5)},
        {"jitter": timedelta(minutes=2)},
        {"jitter": timedelta(0)},
        {"run_timeout": timedelta(hours=2)},
        {"run_timeout": None},
        {"note": "daily"},
        {"cron": "@daily", "message": "again", "timezone": "UTC"},
    ]
    for change in changes:
        await schedule.update(**change)  # pyright: ignore[reportArgumentType]  # one of each
        expected |= change
        assert _told(await schedule.describe()) == expected, change
    await schedule.update(cron="@every 90m")
    assert (await schedule.describe()).cron == "@every 5400s"
    await schedule.update(cron="@every 90m")
    await schedule.update(cron="@every 1.5h")
    await schedule.update(cron="@every 1h500ms")
    await schedule.update(cron="@every 1h30m/10m")
    assert (await schedule.describe()).next[0].minute % 30 == 10


async def test_a_paused_schedule_stays_paused_and_firings_go_on(desk: Desk) -> None:
    agent, other = await desk.agent(), await desk.agent()
    schedule = await desk.schedule(agent=agent.id, message="hold")
    await schedule.trigger()
    (running,) = await desk.shown(schedule, RUNNING)
    await desk.next_second()
    await schedule.trigger()

    async def waits() -> bool:
        return (await schedule.describe()).waiting == 1

    await until(waits)
    await schedule.update(message="hello", agent=other.id)
    await schedule.pause("holidays")
    await schedule.update(catchup_window=timedelta(hours=1))
    status = await schedule.describe()
    assert (status.paused, status.note, status.firings, status.agent_id) == (True, "holidays", 1, other.id)
    await schedule.resume()
    desk.script.gate.set()
    second, first = await desk.shown(schedule, DONE, DONE)
    assert (first.message_id, first.text) == (running.message_id, "you said hold")
    assert second.text == "you said hello"
    assert await desk.messages(other) == [firing_message_id(schedule.name, second.scheduled_at)]
    lines = {one.name: one.agent_id async for one in desk.client.schedules.list()}
    assert lines[schedule.name] == other.id


async def test_an_agent_takes_the_place_of_a_spec_and_the_other_way_round(desk: Desk) -> None:
    agent = await desk.agent()
    schedule = await desk.schedule(agent=agent.id)
    await schedule.update(spec={"model": "scripted", "instructions": "be brief"})
    status = await schedule.describe()
    assert (status.agent_id, status.keep) == (None, 10)
    assert status.spec == {"model": "scripted", "instructions": "be brief"}
    await schedule.update(keep=3)
    await schedule.update(spec={"model": "scripted"})
    status = await schedule.describe()
    assert (status.spec, status.keep) == ({"model": "scripted"}, 3)
    await schedule.update(keep=None)
    assert (await schedule.describe()).keep is None
    await schedule.update(agent=agent.id)
    status = await schedule.describe()
    assert (status.agent_id, status.spec, status.keep) == (agent.id, None, None)
    with pytest.raises(InvalidSchedule, match="no agents of its own to keep"):
        await schedule.update(keep=3)


async def test_nothing_is_changed_unless_all_of_it_is_valid(desk: Desk) -> None:
    agent = await desk.agent()
    schedule = await desk.schedule(agent=agent.id, cron="0 9 * * MON")
    before = await schedule.describe()
    with pytest.raises(InvalidSchedule, match="Nothing is to be changed"):
        await schedule.update()
    with pytest.raises(InvalidSchedule, match="no cron expression"):
        await schedule.update(cron="", message="x")
    with pytest.raises(InvalidSchedule, match=r"Minute is not in range \[0-59\]"):
        await schedule.update(cron="61 * * * *", message="x")
    with pytest.raises(InvalidSchedule, match="'0 0 30 2 \\*' never comes true"):
        await schedule.update(cron="0 0 30 2 *", message="x")
    with pytest.raises(InvalidSchedule, match="Did you mean Europe/Berlin"):
        await schedule.update(timezone="Europe/Berlinn", message="x")
    with pytest.raises(InvalidSchedule, match="one of the two"):
        await schedule.update(agent=agent.id, spec={"model": "scripted"})
    with pytest.raises(InvalidSchedule, match="1 or more are kept"):
        await schedule.update(spec={"model": "scripted"}, keep=0)
    with pytest.raises(InvalidSchedule, match="no overlap policy"):
        await schedule.update(overlap="never")
    with pytest.raises(InvalidSpec):
        await schedule.update(spec={"model": 7})
    with pytest.raises(AgentNotFound):
        await schedule.update(agent="nobody-there")
    with pytest.raises(ScheduleNotFound):
        await desk.client.schedules.get("nothing-there").update(message="x")
    assert await schedule.describe() == before


async def test_a_pause_at_the_same_time_outlasts_a_change_that_is_refused(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    schedule = await desk.schedule(agent=(await desk.agent()).id, cron="0 9 * * MON", note="weekly")
    write, writes = _schedule_change._write, 0  # pyright: ignore[reportPrivateUsage]

    async def racing(client: Client, name: str, wanted: RawSchedule, seen: ScheduleDescription) -> None:
        nonlocal writes
        writes += 1
        # Before the change is made; and between the change and its being taken back.
        if writes == 1:
            await schedule.pause("holidays")
        elif writes == 3:
            await schedule.resume("back")
        await write(client, name, wanted, seen)

    monkeypatch.setattr(_schedule_change, "_write", racing)
    with pytest.raises(InvalidSchedule, match="never comes true"):
        await schedule.update(cron="0 0 30 2 *", message="x")
    status = await schedule.describe()
    assert (status.cron, status.message, status.note, status.paused) == ("0 9 * * MON", "hello", "back", False)
    assert writes == 4


async def test_what_others_change_at_the_same_time_stays(desk: Desk) -> None:
    agent = await desk.agent()
    schedule = await desk.schedule(agent=agent.id, cron="0 9 * * MON")
    await asyncio.gather(
        schedule.update(cron="0 10 * * *"),
        schedule.update(message="report"),
        schedule.update(jitter=timedelta(seconds=30)),
        schedule.pause("holidays"),
    )
    status = await schedule.describe()
    assert (status.cron, status.message, status.jitter) == ("0 10 * * *", "report", timedelta(seconds=30))
    assert (status.paused, status.note) == (True, "holidays")
    await schedule.update(cron="0 0 1 1 * 2098", jitter=timedelta(0))
    assert await schedule.times(datetime(2097, 1, 1, tzinfo=UTC), datetime(2099, 12, 31, tzinfo=UTC)) == (
        datetime(2098, 1, 1, tzinfo=UTC),
    )
