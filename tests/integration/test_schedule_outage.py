"""The server is down while firings are due: made up for within the window, none lost, none doubled."""

import asyncio
import socket
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter

from hibernaut.contracts.schedules import firing_message_id
from hibernaut.models.schedules import FiringState
from tests.integration.schedule_desk import open_desk, until
from workers.devstack.settings import NAMESPACE, Ports
from workers.devstack.temporal import command, healthy, prepare

TEMPORAL = Path(sys.executable).with_name("temporal")


class Server:
    """A Temporal server on a file, which can be killed and started again."""

    def __init__(self, folder: Path) -> None:
        self.ports = Ports.free()
        self.address = f"127.0.0.1:{self.ports.temporal}"
        self._argv = command(TEMPORAL, folder, self.ports)
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        quiet = asyncio.subprocess.DEVNULL
        self._process = await asyncio.create_subprocess_exec(*self._argv, stdout=quiet, stderr=quiet)
        async with asyncio.timeout(60):
            while not await healthy(self.address):
                await asyncio.sleep(0.1)

    async def kill(self) -> None:
        """What `kill -9` does."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()


@asynccontextmanager
async def a_server(folder: Path) -> AsyncGenerator[Server]:
    server = Server(folder)
    await server.start()
    try:
        yield server
    finally:
        await server.kill()


@pytest.mark.slow
@pytest.mark.timeout(240)
async def test_what_was_due_while_the_server_was_down_is_made_up_for(tmp_path: Path) -> None:
    async with a_server(tmp_path) as server:
        client = await Client.connect(
            server.address, namespace=NAMESPACE, data_converter=pydantic_data_converter, lazy=False
        )
        await prepare(client)
        async with open_desk(client) as desk:
            agent = await desk.agent()
            begin = (datetime.now(UTC) + timedelta(seconds=6)).replace(microsecond=0)
            if begin.second > 45:
                # One minute for all of them, or the expressions would have more times.
                begin = begin.replace(second=0) + timedelta(minutes=1)
            seconds = [begin + timedelta(seconds=offset) for offset in (0, 5, 7, 9)]
            minute = f"{begin:%-M %-H %-d %-m} * %Y".replace("%Y", str(begin.year))
            listed = ",".join(str(moment.second) for moment in seconds)
            schedule = await desk.schedule(agent=agent.id, cron=f"{listed} {minute}", overlap="buffer_all")
            missing = await desk.schedule(
                agent=agent.id, cron=f"{seconds[1].second} {minute}", catchup_window=timedelta(seconds=10)
            )
            assert list(await schedule.times(begin, begin + timedelta(days=1))) == seconds

            async def first() -> bool:
                return (await schedule.describe()).firings == 1

            await until(first)
            await server.kill()
            with socket.socket() as probe:
                assert probe.connect_ex(("127.0.0.1", server.ports.temporal)) != 0
            beyond = seconds[1] + timedelta(seconds=12)
            await asyncio.sleep((beyond - datetime.now(UTC)).total_seconds())
            await server.start()
            status = await desk.settled(schedule, len(seconds))
            assert [(one.scheduled_at, one.state) for one in reversed(status.recent)] == [
                (moment, FiringState.DONE) for moment in seconds
            ]
            ours = [one for one in await desk.messages(agent) if f":{schedule.name}:" in one]
            assert ours == [firing_message_id(schedule.name, moment) for moment in seconds]

            async def counted() -> bool:
                return (await missing.describe()).missed == 1

            await until(counted)
            assert (await missing.describe()).firings == 0
