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

from activities.host import AssessActivities, PingActivities
from activities.housekeeping import KeepingActivities
from activities.images import ImageActivities
from activities.model_call import ModelActivities
from activities.providers import Providers, load_providers
from activities.sandbox import PlacementActivities, SandboxActivities
from activities.shell import ShellActivities
from activities.snapshot import SnapshotActivities
from activities.sweep import HostActivities, SweepActivities
from hibernaut.contracts import PLACEMENT_QUEUE, TASK_QUEUE, control_queue, host_queue
from workers import wiring
from workers.agents import TemporalAgents, namespace_id
from workers.interceptor import ErrorInterceptor
from workers.lease import LeaseKeeper, first_lease
from workers.registration import registered
from workers.registry import WORKFLOWS, workflow_runner
from workers.runs import RunEraser
from workers.schedule import ensure_housekeeping
from workers.settings import Settings
from workers.tasks import TaskWanted
from workers.thaw import Thaw

THREADS = 256
"""A command that runs holds a thread for its stream; a thread that waits costs little."""
HOST_SLOTS = 200
CONTROL_SLOTS = 10
"""Kept for `host.ping` alone: a host that is full still answers."""
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
    daemon = wiring.docker(settings)
    namespace = await namespace_id(client)
    boxes = wiring.sandboxes(daemon, settings.host_id, namespace)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(store.close)
        stack.push_async_callback(boxes.close)
        stack.push_async_callback(known.close)
        await store.head("probe")
        await boxes.check()
        folder = wiring.host_folder(settings)
        lease = first_lease(folder, settings.lease_seconds, namespace, holding=bool(await boxes.owned()))
        engine = wiring.snapshot_engine(settings, store, daemon)
        transcript = wiring.transcript(store)
        model = ModelActivities(transcript, known)
        keeping = KeepingActivities(store, engine, RunEraser(client).erase)
        placement = PlacementActivities(settings.host_id, boxes)
        sandbox = SandboxActivities(settings.host_id, boxes, engine, store, lease.seconds)
        assessment = AssessActivities(boxes, folder, TaskWanted(client), lease.seconds)
        ping = PingActivities(settings.host_id, boxes)
        shell = ShellActivities(boxes, store, transcript)
        snapshot = SnapshotActivities(engine)
        hosts = HostActivities(store)
        agents = TemporalAgents(client, namespace)
        sweep = SweepActivities(settings.host_id, boxes, engine, store, agents)
        image = ImageActivities(settings.host_id, wiring.images(daemon), store)
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
                activities=[model.call, keeping.keep, keeping.append, keeping.purge, keeping.forget, hosts.list],
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
                    assessment.assess,
                    sweep.sweep,
                    image.keep,
                    image.load,
                    shell.exec,
                    snapshot.take,
                    snapshot.restore,
                ],
                max_concurrent_activities=HOST_SLOTS,
                **common,
            ),
            Worker(
                client,
                task_queue=control_queue(settings.host_id),
                activities=[ping.ping],
                max_concurrent_activities=CONTROL_SLOTS,
                **common,
            ),
        )
        thaw = Thaw(settings.host_id, folder, boxes, engine, agents, store)
        # Before the first poll: a sandbox that is acquired is one that the watchdog knows of.
        await stack.enter_async_context(LeaseKeeper(client, folder, settings.host_id, lease, thaw.run).kept())
        for worker in workers:
            await stack.enter_async_context(worker)
        await stack.enter_async_context(registered(store, settings.host_id))
        await ensure_housekeeping(client, timedelta(minutes=settings.housekeeping_minutes))
        yield
