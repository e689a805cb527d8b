"""An agent that was terminated in the middle of a command is deleted with its container, and nothing comes after."""

import asyncio
from uuid import uuid4

import pytest
from temporalio.client import Client

from examples.scripted_model import say, shell
from hibernaut.contracts import StoreKeys
from hibernaut.models.deletion import Certificate
from tests.integration.conftest import LabFactory


@pytest.mark.slow
@pytest.mark.timeout(180)
async def test_a_terminated_agent_leaves_nothing(own: LabFactory, temporal: Client) -> None:
    text = f"canary{uuid4().hex}"
    loud = f"echo {text} > ~/file; while true; do echo {text}; sleep 0.1; done"
    async with own([shell(loud), say("never")]) as it:
        agent = await it.start("doomed")
        await agent.post("go")
        async with asyncio.timeout(60):
            while (lease := (await agent.status()).lease) is None:
                await asyncio.sleep(0.1)
        uid = (await agent.status()).agent_uid
        async with asyncio.timeout(60):
            # Its output is on its way into the store.
            while not [info async for info in it.store.list(f"agents/{uid}/exec/")]:
                await asyncio.sleep(0.1)
        await temporal.get_workflow_handle(agent.id).terminate("the test")

        done = await agent.delete()

        assert it.daemon.api.containers(all=True, filters={"id": lease.sandbox_id}) == []
        found = Certificate.model_validate_json(await it.store.get(done.certificate or ""))
        assert found.remnants == ()
        assert found.runs["agent"] >= 1
    # The worker has stopped: whatever its activities were at has ended, and left nothing.
    assert [info.key async for info in it.store.list(StoreKeys.agent(uid))] == []
