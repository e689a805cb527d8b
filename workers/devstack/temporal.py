"""The Temporal development server: a file database, a namespace with long retention, our search attributes."""

import asyncio
import time
from collections.abc import Collection, Mapping
from pathlib import Path

from google.protobuf.duration_pb2 import Duration
from temporalio.api.enums.v1 import IndexedValueType, TaskQueueType
from temporalio.api.namespace.v1 import NamespaceConfig
from temporalio.api.operatorservice.v1 import AddSearchAttributesRequest, ListSearchAttributesRequest
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import (
    DescribeNamespaceRequest,
    DescribeTaskQueueRequest,
    RegisterNamespaceRequest,
    UpdateNamespaceRequest,
)
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from workers.devstack.settings import LOOPBACK, NAMESPACE, Ports

RETENTION_SECONDS = 90 * 24 * 3600
"""How long closed workflows stay readable."""

_SETTLE_SECONDS = 30.0
SOON_DELETED = 'history.transferProcessorUpdateAckInterval="1s"'
"""A run that was closed is deleted once the server has noted its close: every 30 s, by default."""

SEARCH_ATTRIBUTES: Mapping[str, IndexedValueType.ValueType] = {
    "HibernautState": IndexedValueType.INDEXED_VALUE_TYPE_KEYWORD,
    "HibernautModel": IndexedValueType.INDEXED_VALUE_TYPE_KEYWORD,
    "HibernautHost": IndexedValueType.INDEXED_VALUE_TYPE_KEYWORD,
    "HibernautSteps": IndexedValueType.INDEXED_VALUE_TYPE_INT,
    "HibernautRecoveries": IndexedValueType.INDEXED_VALUE_TYPE_INT,
}


def command(program: Path, folder: Path, ports: Ports) -> list[str]:
    """How the server is started; `folder` keeps its database."""
    return [
        str(program), "server", "start-dev",
        "--ip", LOOPBACK,
        "--port", str(ports.temporal),
        "--ui-port", str(ports.ui),
        "--db-filename", str(folder / "temporal.db"),
        "--namespace", NAMESPACE,
        "--ui-disable-news-fetch",
        "--dynamic-config-value", SOON_DELETED,
        "--log-level", "warn",
        "--log-format", "json",
    ]  # fmt: skip


async def healthy(address: str) -> bool:
    """Whether the server answers and knows our namespace."""
    try:
        client = await Client.connect(address, namespace=NAMESPACE)
        await client.workflow_service.describe_namespace(DescribeNamespaceRequest(namespace=NAMESPACE))
    except (RPCError, RuntimeError):
        # A connection that is refused is a bare RuntimeError in the SDK.
        return False
    return True


async def prepare(client: Client, namespace: str = NAMESPACE) -> None:
    """Make a namespace fit for the engine: it exists, keeps closed workflows long, and has our search attributes.

    Idempotent; a retention that is longer than ours is left alone.
    """
    service = client.workflow_service
    retention = Duration(seconds=RETENTION_SECONDS)
    try:
        found = await service.describe_namespace(DescribeNamespaceRequest(namespace=namespace))
    except RPCError as error:
        if error.status is not RPCStatusCode.NOT_FOUND:
            raise
        await service.register_namespace(
            RegisterNamespaceRequest(namespace=namespace, workflow_execution_retention_period=retention)
        )
    else:
        if found.config.workflow_execution_retention_ttl.ToSeconds() < RETENTION_SECONDS:
            config = NamespaceConfig(workflow_execution_retention_ttl=retention)
            await service.update_namespace(UpdateNamespaceRequest(namespace=namespace, config=config))
    known = await _search_attributes(client, namespace)
    missing = {name: kind for name, kind in SEARCH_ATTRIBUTES.items() if name not in known}
    if missing:
        await client.operator_service.add_search_attributes(
            AddSearchAttributesRequest(namespace=namespace, search_attributes=missing)
        )


async def _search_attributes(client: Client, namespace: str) -> Collection[str]:
    request = ListSearchAttributesRequest(namespace=namespace)
    deadline = time.monotonic() + _SETTLE_SECONDS
    while True:
        try:
            answer = await client.operator_service.list_search_attributes(request)
        except RPCError as error:
            # A server learns of a new namespace only when it next refreshes its cache.
            if error.status is not RPCStatusCode.NOT_FOUND or time.monotonic() > deadline:
                raise
            await asyncio.sleep(0.2)
        else:
            return set(answer.custom_attributes)


async def worker_polls(client: Client, task_queue: str, *, since: float) -> bool:
    """Whether a worker asked this task queue for work after the moment `since` (seconds since the epoch)."""
    answer = await client.workflow_service.describe_task_queue(
        DescribeTaskQueueRequest(
            namespace=client.namespace,
            task_queue=TaskQueue(name=task_queue),
            task_queue_type=TaskQueueType.TASK_QUEUE_TYPE_WORKFLOW,
        )
    )
    return any(poller.last_access_time.ToNanoseconds() / 1e9 >= since for poller in answer.pollers)
