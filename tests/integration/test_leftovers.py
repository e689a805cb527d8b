"""A worker that starts lets go on what the one before it held still as it was killed."""

import pytest
from temporalio.client import Client

from tests.support.hosts import a_host
from workers import wiring
from workers.agents import namespace_id
from workers.settings import Settings
from workers.worker import running


async def test_what_a_killed_worker_held_still_goes_on_when_the_next_one_starts(
    settings: Settings, temporal: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    async with a_host(namespace_id=await namespace_id(temporal)) as host:
        mine = settings.model_copy(update={"host_id": host.id, "lease_seconds": 5.0})
        held = wiring.host_folder(mine).held
        box = (await host.acquire()).sandbox_id
        # As it is when a process is killed: what was noted stays, and nobody has it locked.
        with held.holding(box):
            host.daemon.api.pause(box)
        async with running(mine, temporal):
            assert not host.paused(box)
            assert held.left() == []
