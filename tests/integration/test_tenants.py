"""Two owners on one Temporal server, one bucket and one Docker daemon: neither gets at what is the other's."""

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest
from temporalio.api.history.v1 import WorkflowExecutionStartedEventAttributes
from temporalio.client import WorkflowHandle

from activities.ownership import StoreForeign
from activities.ports.store import ObjectStore
from activities.snapshots.sealing import Key, KeyRing
from examples.scripted_model import say, shell
from hibernaut.agent import AgentHandle
from hibernaut.contracts import AGENT_WORKFLOW, TASK_QUEUE
from hibernaut.models import AgentState
from tests.integration.conftest import Lab, LabFactory
from tests.integration.tenants import environment, tenant
from workers.devstack.stack import DevStack
from workers.settings import CHECKOUT

RING = KeyRing([Key("both", bytes(range(32)))])


async def _copy(mine: ObjectStore, theirs: ObjectStore, prefix: str) -> None:
    async for info in mine.list(prefix):
        await theirs.put(info.key, await mine.get(info.key))


async def _asleep(it: Lab) -> AgentHandle:
    """An agent that sleeps with something in its snapshot."""
    agent = await it.start()
    await agent.send("keep", timeout=60)
    await agent.hibernate(timeout=60)
    return agent


async def _sleeping_run(it: Lab, agent: AgentHandle) -> WorkflowExecutionStartedEventAttributes:
    """How the run that sleeps was begun: with all that the agent carries."""
    while True:
        history = await it.temporal.get_workflow_handle(agent.id).fetch_history()
        begun = history.events[0].workflow_execution_started_event_attributes
        if begun.continued_execution_run_id:
            return begun
        await asyncio.sleep(0.1)


async def _paused(agent: AgentHandle) -> str:
    while (status := await agent.status()).state is not AgentState.PAUSED:
        await asyncio.sleep(0.1)
    return status.paused_reason or ""


@pytest.mark.slow
async def test_an_agent_that_was_copied_whole_cannot_wake_at_another_owner(stack: DevStack, tmp_path: Path) -> None:
    """Its run's input, its objects, even the snapshot's key: all that there is of it but the owner's settings."""
    acme, rival = [await environment(stack, tmp_path, name) for name in ("acme", "rival")]
    async with tenant(acme) as first, tenant(rival) as second:
        for labs in (first, second):
            labs.settings = labs.settings.model_copy(update={"snapshot_keys": RING})
        keeping = [shell("echo private > /root/plans"), say("kept")]
        async with first(keeping) as it:
            agent = await _asleep(it)
            uid = (await agent.status()).agent_uid
            begun = await _sleeping_run(it, agent)
        await _copy(first.store, second.store, f"agents/{uid}/")
        await _copy(first.store, second.store, "images/")
        carried = await second.temporal.data_converter.decode(begun.input.payloads)
        async with second([*keeping, shell("cat /root/plans"), say("read")]) as it:
            handle: WorkflowHandle[object, object] = await it.temporal.start_workflow(
                AGENT_WORKFLOW, args=carried, id=agent.id, task_queue=TASK_QUEUE
            )
            copied = it.client.get(handle.id)
            assert (await copied.status()).agent_uid == uid
            await copied.post("read")
            reason = await _paused(copied)
            assert f"belongs to the owner '{acme['TEMPORAL_NAMESPACE']}'" in reason
            assert "HIBERNAUT_OWNER" in reason
            told = [item for item in await it.items(copied) if item.get("type") == "shell_call_output"]
            assert "private" not in str(told)


@pytest.mark.slow
async def test_who_is_of_another_owner_does_not_start(stack: DevStack, tmp_path: Path) -> None:
    acme, rival = [await environment(stack, tmp_path, name) for name in ("acme", "rival")]
    async with tenant(acme) as first:
        async with first([]):
            pass
        stray = {**rival, "HIBERNAUT_STORE": acme["HIBERNAUT_STORE"]}
        async with tenant(stray) as lost:
            with pytest.raises(StoreForeign, match="Set HIBERNAUT_STORE to a prefix"):
                async with lost([]):
                    pytest.fail("a worker runs on another owner's store")
        done = await asyncio.to_thread(_gateway, stray)
        assert done.returncode == 1
        assert f"belongs to the owner {acme['TEMPORAL_NAMESPACE']!r}" in done.stderr
        # What one worker noted, the next one has to have.
        async with tenant({**acme, "HIBERNAUT_PAYLOAD_KEYS": f"k: {'QUJD' * 10}QUI="}) as sealing, sealing([]):
            pass
        async with tenant(acme) as lacking:
            with pytest.raises(StoreForeign, match="sealed with the key"):
                await _started(lacking)


async def _started(labs: LabFactory) -> None:
    async with labs([]):
        pass


def _gateway(env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "workers.gateway"]
    return subprocess.run(argv, env=env, cwd=CHECKOUT, capture_output=True, text=True, check=False, timeout=60)
