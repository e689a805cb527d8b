"""The real AgentWorkflow on a real server, with activities that pretend: for tests of what stands around it."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from temporalio import activity
from temporalio.client import Client
from temporalio.common import SearchAttributeKey
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.exceptions import ApplicationError
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from hibernaut import contracts as c
from hibernaut.contracts import deletion, stubs
from hibernaut.models import Event, LeaseStatus, ToolCall, Usage
from workers.devstack.temporal import SOON_DELETED
from workers.interceptor import ErrorInterceptor
from workers.registry import WORKFLOWS

HOST = "host-under-test"
TEMPORAL = Path(__file__).parents[2] / ".venv/bin/temporal"
ATTRIBUTES = [
    SearchAttributeKey.for_keyword("HibernautState"),
    SearchAttributeKey.for_keyword("HibernautModel"),
    SearchAttributeKey.for_keyword("HibernautHost"),
    SearchAttributeKey.for_int("HibernautSteps"),
    SearchAttributeKey.for_int("HibernautRecoveries"),
]


@dataclass
class Script:
    """What the pretended activities do, and what they were asked."""

    gate: asyncio.Event = field(default_factory=asyncio.Event)
    """A message `hold` waits for it."""
    events: dict[str, list[Event]] = field(default_factory=dict[str, list[Event]])
    """Events handed to the store, by agent uid."""
    puts: list[c.PutFileRequest] = field(default_factory=list[c.PutFileRequest])
    purged: list[c.PurgeRequest] = field(default_factory=list[c.PurgeRequest])
    certified: list[deletion.CertifyRequest] = field(default_factory=list[deletion.CertifyRequest])
    forgotten: list[str] = field(default_factory=list[str])
    on_put: Callable[[c.PutFileRequest], Any] | None = None
    on_events: Callable[[c.AppendEventsRequest], Any] | None = None
    on_exec: Callable[[c.ExecRequest], Any] | None = None
    """Runs the commands of a message `run COMMAND && COMMAND ...`."""
    more: list[Callable[..., Any]] = field(default_factory=list[Callable[..., Any]])
    """Other activities that the agents' worker has, real ones among them."""

    def activities(self) -> list[Callable[..., Any]]:
        return [
            self.model_call,
            self.choose,
            self.acquire,
            self.destroy,
            self.exec,
            self.take,
            self.restore,
            self.put,
            self.keep,
            self.append,
            self.purge,
            self.forget,
            self.survey,
            self.certify,
            *self.more,
        ]

    @activity.defn(name=c.MODEL_CALL.name)
    async def model_call(self, request: c.ModelRequest) -> c.ModelReply:
        texts = [item.text for item in request.new_items if isinstance(item, c.UserMessage)]
        text = texts[-1] if texts else "done"
        ref = c.StoreKeys.segment(request.agent_uid, request.branch, request.step, request.ordinal)
        if text == "hold":
            while not self.gate.is_set():
                activity.heartbeat("thinking")
                await asyncio.sleep(0.1)
        if text == "reject":
            raise ApplicationError("the key is wrong", type="model_rejected", non_retryable=True)
        if text.startswith("run "):
            call = ToolCall(call_id="call_1", kind="shell_call", commands=tuple(text[4:].split(" && ")))
            return c.ModelReply(segment_ref=ref, tool_calls=(call,))
        return c.ModelReply(
            segment_ref=ref,
            text_head=f"you said {text}",
            text_truncated=text == "long",
            refusal=text == "refuse",
            usage=Usage(input_tokens=3, output_tokens=2, total_tokens=5),
        )

    @activity.defn(name=c.PLACEMENT_CHOOSE.name)
    async def choose(self, _: c.PlacementRequest) -> c.Placement:
        return c.Placement(host_id=HOST, task_queue=c.TASK_QUEUE)

    @activity.defn(name=c.SANDBOX_ACQUIRE.name)
    async def acquire(self, request: c.AcquireRequest) -> c.AcquireResult:
        lease = LeaseStatus(
            generation=request.generation,
            host_id=HOST,
            task_queue=c.TASK_QUEUE,
            sandbox_id=f"sandbox-{request.generation}",
            image_id="sha256:image",
        )
        return c.AcquireResult(lease=lease, duration_ms=1)

    @activity.defn(name=c.SANDBOX_DESTROY.name)
    async def destroy(self, request: c.DestroyRequest) -> c.DestroyResult:
        return c.DestroyResult(removed=(request.lease.sandbox_id,))

    @activity.defn(name=c.SHELL_EXEC.name)
    async def exec(self, request: c.ExecRequest) -> c.ExecResult:
        if self.on_exec:
            return await self.on_exec(request)
        return c.ExecResult(record_ref=c.StoreKeys.exec_record(request.agent_uid, request.exec_prefix), outcomes=())

    @activity.defn(name=c.SNAPSHOT_TAKE.name)
    async def take(self, request: c.SnapshotRequest) -> c.SnapshotResult:
        return c.SnapshotResult(
            ref=f"snapshot-{request.number}", number=request.number, unchanged=False, added=1, files=1
        )

    @activity.defn(name=c.SNAPSHOT_RESTORE.name)
    async def restore(self, request: c.RestoreRequest) -> c.RestoreResult:
        number = int(request.ref.rpartition("-")[2])
        return c.RestoreResult(restored_ref=request.ref, restored_number=number)

    @activity.defn(name=c.FILES_PUT.name)
    async def put(self, request: c.PutFileRequest) -> c.PutFileResult:
        self.puts.append(request)
        size = await self.on_put(request) if self.on_put else 0
        return c.PutFileResult(path=request.path, size=size)

    @activity.defn(name=c.TRANSCRIPT_KEEP.name)
    async def keep(self, request: c.KeepTextRequest) -> c.KeepTextResult:
        return c.KeepTextResult(ref=c.StoreKeys.message(request.agent_uid, request.message_id))

    @activity.defn(name=c.EVENTS_APPEND.name)
    async def append(self, request: c.AppendEventsRequest) -> c.AppendEventsResult:
        self.events.setdefault(request.agent_uid, []).extend(request.events)
        if self.on_events:
            await self.on_events(request)
        return c.AppendEventsResult(ref=c.StoreKeys.events(request.agent_uid, request.events[0].seq))

    @activity.defn(name=c.AGENT_PURGE.name)
    async def purge(self, request: c.PurgeRequest) -> c.PurgeResult:
        self.purged.append(request)
        return c.PurgeResult(objects=1)

    @activity.defn(name=c.AGENT_FORGET.name)
    async def forget(self, request: c.ForgetRequest) -> c.ForgetResult:
        self.forgotten.append(request.agent_id)
        return c.ForgetResult(runs=1)

    @activity.defn(name=stubs.AGENT_SURVEY.name)
    async def survey(self, request: deletion.SurveyRequest) -> deletion.SurveyResult:
        del request
        return deletion.SurveyResult(objects=1)

    @activity.defn(name=stubs.AGENT_CERTIFY.name)
    async def certify(self, request: deletion.CertifyRequest) -> deletion.CertifyResult:
        self.certified.append(request)
        return deletion.CertifyResult(ref=c.StoreKeys.certificate(request.name), digest="0" * 64)


@asynccontextmanager
async def temporal_server() -> AsyncGenerator[WorkflowEnvironment]:
    """A development server with our search attributes, in memory."""
    env = await WorkflowEnvironment.start_local(
        dev_server_existing_path=str(TEMPORAL),
        data_converter=pydantic_data_converter,
        search_attributes=ATTRIBUTES,
        dev_server_log_level="error",
        dev_server_extra_args=["--dynamic-config-value", SOON_DELETED],
    )
    async with env:
        yield env


@asynccontextmanager
async def working(client: Client, script: Script) -> AsyncGenerator[None]:
    """Workers for the agents' queue and for placement; the host's own queue is the agents' one here."""
    agents = Worker(
        client,
        task_queue=c.TASK_QUEUE,
        workflows=list(WORKFLOWS),
        activities=script.activities(),
        workflow_runner=UnsandboxedWorkflowRunner(),
        # No detection of deadlocks: on a busy machine a task of a workflow may take its two seconds, and what is
        # interrupted then leaves coroutines that were never awaited, in whichever test runs next.
        debug_mode=True,
        interceptors=[ErrorInterceptor()],
        max_heartbeat_throttle_interval=timedelta(milliseconds=100),
    )
    async with agents, Worker(client, task_queue=c.PLACEMENT_QUEUE, activities=[script.choose]):
        yield
