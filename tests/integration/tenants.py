"""Owners on the servers of one stack: each has a Temporal namespace and a prefix of the bucket of its own."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import uuid4

from temporalio.client import Client

from tests.integration.conftest import LabFactory, retire
from workers import wiring
from workers.devstack.stack import DevStack
from workers.devstack.temporal import prepare
from workers.settings import Settings
from workers.worker import connect


async def environment(stack: DevStack, home: Path, name: str, **more: str) -> dict[str, str]:
    """The settings of an owner's workers, whose namespace exists."""
    namespace = f"{name}-{uuid4().hex[:6]}"
    plain = await Client.connect(stack.temporal_address, namespace=namespace)
    await prepare(plain, namespace)
    return {
        **stack.env,
        "TEMPORAL_NAMESPACE": namespace,
        "HIBERNAUT_STORE": f"{stack.env['HIBERNAUT_STORE']}/{namespace}",
        "HIBERNAUT_HOST_ID": f"host-{namespace}",
        "HIBERNAUT_HOME": str(home / namespace),
        "HIBERNAUT_COLLECTION_HOURS": "0",
        **more,
    }


@asynccontextmanager
async def tenant(env: dict[str, str], *, ending: bool = True) -> AsyncGenerator[LabFactory]:
    """Labs of an owner; its agents end with the block, unless they are to go on."""
    settings = Settings.load(env)
    settings.home.mkdir(parents=True, exist_ok=True)
    client, store = await connect(settings), wiring.open_store(settings)
    try:
        yield LabFactory(settings, client, store)
        if ending:
            await retire(client)
    finally:
        await store.close()
