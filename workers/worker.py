"""The Temporal worker: control queue, placement queue and the queue of this sandbox host, in one process."""

import asyncio
from collections.abc import AsyncGenerator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from typing import Any

from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.worker import Worker

from activities.adapters.docker_client import Daemon
from activities.housekeeping import KeepingActivities
from activities.model_call import ModelActivities
from activities.providers import Providers, load_providers
from activities.sandbox import PlacementActivities, SandboxActivities
from activities.shell import ShellActivities
from activities.snapshot import SnapshotActivities
from hibernaut.contracts import PLACEMENT_QUEUE, TASK_QUEUE, host_queue
from workers import wiring
from workers.interceptor import ErrorInterceptor
from workers.registry import WORKFLOWS, workflow_runner
from workers.runs import RunEraser
from workers.settings import Settings

THREADS = 256
"""A command that runs holds a thread for its stream; a thread that waits costs little."""
HOST_SLOTS = 200
HEARTBEAT = timedelta(seconds=1)
GRACE = timedelta(seconds=5)
"""What running activities get at shutdown; commands run on and are attached to by the next worker."""


async def connect(settings: Settings) -> Client:
    """Connect to Temporal with our data converter."""
    return await Client.connect(**settings.connection.connect_config(), data_converter=pydantic_data_converter)


@asynccontextmanager
async def running(settings: Settings, client: Client, providers: Providers | None = None) -> AsyncGenerator[None]:
    """Run every queue until the block ends; store and Docker are tried first.

    Raises:
        StoreError: The store cannot be used.
        SandboxUnavailable: No Docker daemon answers.
        ProviderSettingsInvalid: The model providers cannot be used.
    """
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(THREADS, thread_name_prefix="worker"))
    known = providers if providers is not None else load_providers()
    store = wiring.open_store(settings)
    daemon = Daemon()
    boxes = wiring.sandboxes(daemon)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(store.close)
        stack.push_async_callback(boxes.close)
        stack.push_async_callback(known.close)
        await store.head("probe")
        await boxes.check()
        engine = wiring.snapshot_engine(settings, store, daemon)
        transcript = wiring.transcript(store)
        model = ModelActivities(transcript, known)
        keeping = KeepingActivities(store, engine, RunEraser(client).erase)
        placement = PlacementActivities(settings.host_id)
        sandbox = SandboxActivities(settings.host_id, boxes, engine, store)
        shell = ShellActivities(boxes, store, transcript)
        snapshot = SnapshotActivities(engine)
        common: dict[str, Any] = {
            "interceptors": [ErrorInterceptor()],
            "max_heartbeat_throttle_interval": HEARTBEAT,
            "default_heartbeat_throttle_interval": HEARTBEAT,
            "graceful_shutdown_timeout": GRACE,
        }
        workers = (
            Worker(
                client,
                task_queue=TASK_QUEUE,
                workflows=list(WORKFLOWS),
                workflow_runner=workflow_runner(),
                activities=[model.call, keeping.keep, keeping.append, keeping.purge, keeping.forget],
                **common,
            ),
            Worker(client, task_queue=PLACEMENT_QUEUE, activities=[placement.choose], **common),
            Worker(
                client,
                task_queue=host_queue(settings.host_id),
                activities=[
                    sandbox.acquire,
                    sandbox.destroy,
                    sandbox.put,
                    shell.exec,
                    snapshot.take,
                    snapshot.restore,
                ],
                max_concurrent_activities=HOST_SLOTS,
                **common,
            ),
        )
        for worker in workers:
            await stack.enter_async_context(worker)
        yield
