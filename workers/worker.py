"""The Temporal worker: control queue, placement queue and the queue of this sandbox host, in one process."""

import asyncio
import os
from collections.abc import AsyncGenerator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from typing import Any

from temporalio.client import Client
from temporalio.worker import Worker

from activities.adapters.egress_sandboxes import EgressSandboxes
from activities.adapters.egress_secrets import unseen
from activities.adapters.secret_values import SecretValues
from activities.artifacts import ArtifactActivities
from activities.audit import AgentAudit
from activities.children import ChildActivities
from activities.compaction import CompactionActivities
from activities.host import AssessActivities, PingActivities
from activities.housekeeping import KeepingActivities
from activities.images import ImageActivities
from activities.images_upkeep import ImageUpkeepActivities
from activities.mcp_call import McpActivities
from activities.mcp_pool import McpPool
from activities.mcp_settings import load_servers
from activities.model_call import ModelActivities
from activities.network import NetworkActivities
from activities.providers import Providers, load_providers
from activities.sandbox import PlacementActivities, SandboxActivities
from activities.scheduling import ScheduleActivities
from activities.shell import ShellActivities
from activities.snapshot import SnapshotActivities
from activities.sweep import HostActivities, SweepActivities
from activities.upkeep import UpkeepActivities
from activities.verification import VerifyActivities
from hibernaut._temporal import Workflows
from hibernaut.client import AgentClient
from hibernaut.contracts import PLACEMENT_QUEUE, TASK_QUEUE, control_queue, host_queue
from hibernaut.models import SandboxSpec
from workers import wiring
from workers.agents import TemporalAgents, namespace_id
from workers.audit_ship import Shipping
from workers.audit_spool import spool_of
from workers.egress.keep import desk, kept
from workers.gateway.events import Events
from workers.interceptor import ErrorInterceptor
from workers.lease import LeaseKeeper, first_lease
from workers.leftovers import recovered
from workers.registration import registered
from workers.registry import WORKFLOWS
from workers.runs import RunEraser
from workers.schedule import ensure_collection, ensure_housekeeping
from workers.settings import MEBIBYTE, Settings
from workers.tasks import TaskWanted
from workers.thaw import Thaw
from workers.unopened import passing_on
from workers.versioning import versioning

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
    connection = settings.connection
    return await Client.connect(**connection.connect_config(), data_converter=connection.data_converter)


@asynccontextmanager
async def running(  # noqa: PLR0915  # a line for each thing it wires
    settings: Settings, client: Client, providers: Providers | None = None, mcp: McpPool | None = None
) -> AsyncGenerator[None]:
    """Run every queue until the block ends; store and Docker are tried first.

    Raises:
        StoreError: The store cannot be used.
        SandboxUnavailable: No Docker daemon answers.
        ProviderSettingsInvalid: The model providers cannot be used.
        McpSettingsInvalid: The MCP servers cannot be used.
    """
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(THREADS, thread_name_prefix="worker"))
    known = providers if providers is not None else load_providers()
    servers = mcp if mcp is not None else McpPool(load_servers())
    store = wiring.open_store(settings)
    daemon = wiring.docker(settings)
    namespace = await namespace_id(client)
    secrets = SecretValues.of(os.environ)
    ways_out = desk(settings, daemon, secrets)
    containers = wiring.sandboxes(daemon, settings.host_id, namespace, settings.images)
    boxes = EgressSandboxes(containers, ways_out)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(store.close)
        stack.push_async_callback(boxes.close)
        stack.push_async_callback(known.close)
        stack.push_async_callback(servers.close)
        await store.head("probe")
        await wiring.take_store(settings, store)
        audit_store = wiring.audit_store(settings)
        stack.push_async_callback(audit_store.close)
        digests = wiring.digests(settings)
        folder = wiring.host_folder(settings)
        hosts_sandboxes = settings.serves == "all"
        if hosts_sandboxes:
            await boxes.check()
        holding = hosts_sandboxes and bool(await boxes.owned())
        lease = first_lease(folder, settings.lease_seconds, namespace, holding=holding)
        engine = wiring.snapshot_engine(settings, store, daemon)
        transcript = wiring.transcript(store)
        model = ModelActivities(transcript, known, servers)
        compaction = CompactionActivities(transcript, known)
        keeping = KeepingActivities(store, engine, RunEraser(client).forget, AgentAudit(audit_store, digests))

        async def fits(spec: SandboxSpec) -> None:
            await containers.fits(spec)
            await boxes.fits(spec)

        placement = PlacementActivities(settings.host_id, boxes, fits)
        spool = spool_of(settings)
        destruction = wiring.destruction(settings, boxes, daemon, spool)
        sandbox = SandboxActivities(settings.host_id, boxes, engine, store, lease.seconds, destruction, spool)
        assessment = AssessActivities(boxes, folder, TaskWanted(client), lease.seconds)
        ping = PingActivities(settings.host_id, boxes)
        shell = ShellActivities(boxes, store, transcript, ways_out, digests)
        snapshot = SnapshotActivities(engine)
        hosts = HostActivities(store)
        agents = TemporalAgents(client, namespace)
        sweep = SweepActivities(settings.host_id, boxes, engine, store, agents, destruction)
        artifact = ArtifactActivities(boxes, store)
        image = ImageActivities(settings.host_id, wiring.images(daemon), store, settings.sealer)
        keeper = wiring.upkeep(settings, store)
        upkeep = UpkeepActivities(keeper, store, settings.snapshot_keep)
        verification = VerifyActivities(keeper, store)
        scheduling = ScheduleActivities(AgentClient.over(client), Events(Workflows(client), store).turn_end)
        children = ChildActivities(AgentClient.over(client))
        kept_images = ImageUpkeepActivities(store, settings.sealer)
        common: dict[str, Any] = {
            "interceptors": [ErrorInterceptor(unseen(secrets))],
            "max_heartbeat_throttle_interval": HEARTBEAT,
            "default_heartbeat_throttle_interval": HEARTBEAT,
            "graceful_shutdown_timeout": GRACE,
        }
        control = Worker(
            passing_on(client),
            task_queue=TASK_QUEUE,
            workflows=list(WORKFLOWS),
            **versioning(settings),
            activities=[
                compaction.compact,
                McpActivities(servers).call,
                *(model.call, keeping.keep, keeping.append, keeping.purge, keeping.forget, hosts.list),
                *wiring.deletion(settings, store, engine, RunEraser(client), audit=audit_store, key=settings.audit.key),
                *(upkeep.agents, upkeep.prune, upkeep.prune_agents, upkeep.collect, upkeep.name),
                *wiring.branching(store, transcript, engine),
                *(verification.verify, kept_images.verify, kept_images.collect),
                *(scheduling.send, scheduling.wait, scheduling.stop, scheduling.finish),
                *(children.wait, children.close, children.find),
            ],
            **common,
        )
        if not hosts_sandboxes:
            await stack.enter_async_context(control)
            yield
            return
        workers = (
            control,
            Worker(client, task_queue=PLACEMENT_QUEUE, activities=[placement.choose], **common),
            Worker(
                client,
                task_queue=host_queue(settings.host_id),
                activities=[
                    sandbox.acquire,
                    sandbox.destroy,
                    sandbox.put,
                    NetworkActivities(ways_out).apply,
                    artifact.publish,
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
        thaw = Thaw(settings.host_id, folder, boxes, engine, agents, store, spool, destruction=destruction)
        # Before the first poll: a sandbox that is acquired is one that the watchdog knows of.
        await stack.enter_async_context(LeaseKeeper(client, folder, settings.host_id, lease, thaw.run).kept())
        # After the lease was renewed: what an expired one kept frozen is marked by then.
        await stack.enter_async_context(recovered(wiring.freezer(settings, daemon)))
        await stack.enter_async_context(kept(ways_out))
        await stack.enter_async_context(Shipping(settings, client, audit_store).kept())
        await stack.enter_async_context(containers.disks_watched(settings.disk_reserve_mb * MEBIBYTE))
        for worker in workers:
            await stack.enter_async_context(worker)
        await stack.enter_async_context(registered(store, settings.host_id))
        await ensure_housekeeping(client, timedelta(minutes=settings.housekeeping_minutes))
        await ensure_collection(client, timedelta(hours=settings.collection_hours))
        yield
