"""The time-skipping test server, and ways around the two flaws that the engine runs into.

When an activity ends while a workflow task is under way, and that task asks for the activity to be cancelled, the real
server goes on: the end is in the next task. This one refuses the task (`ACTIVITY_UNKNOWN for scheduledEventId=...`) and
never gives out another: the workflow stands still for good. So it is not told of such a wish, and the workflow hears
that the activity ended. To fail the task instead, so that it is tried again, is no way: at times it is not.

A query that meets a workflow task makes it count that task twice: time is held for good by a task that is over.
`let_pass` lets go of it.
"""

import asyncio
import contextlib
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest
from temporalio.api.testservice.v1 import UnlockTimeSkippingRequest
from temporalio.bridge.proto import ActivityTaskCompletion
from temporalio.bridge.proto.activity_task import ActivityTask
from temporalio.bridge.proto.workflow_completion import WorkflowActivationCompletion
from temporalio.bridge.worker import Worker as Bridge
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.service import RPCError
from temporalio.testing import WorkflowEnvironment

TEST_SERVER = Path(sys.executable).with_name("temporal-test-server")

Activity = tuple[str, str]
"""An activity: its run's id, and its own."""


@asynccontextmanager
async def time_skipping() -> AsyncGenerator[WorkflowEnvironment]:
    """A time-skipping server; all workers of the agents in it are of this process."""
    environment = await WorkflowEnvironment.start_time_skipping(
        test_server_existing_path=str(TEST_SERVER), data_converter=pydantic_data_converter
    )
    with pytest.MonkeyPatch.context() as patched:
        CancelsOfWhatEnded().apply(patched)
        async with environment:
            yield environment


async def let_pass(environment: WorkflowEnvironment, time: timedelta, patience: float = 20) -> None:
    """Let time pass. Held longer than `patience` seconds, it is let go of; a dropped connection is made anew."""
    for _ in range(3):
        passing = asyncio.create_task(environment.sleep(time))
        await asyncio.wait([passing], timeout=patience)
        if not passing.done():
            with contextlib.suppress(RPCError):
                await environment.client.test_service.unlock_time_skipping(UnlockTimeSkippingRequest())
        with contextlib.suppress(RPCError):
            await passing
            return
    await environment.sleep(time)


class CancelsOfWhatEnded:
    """Keeps from the server what it cannot take: a workflow's wish to cancel what has ended."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()
        self._tokens: dict[bytes, Activity] = {}
        self._ended: set[Activity] = set()
        self._cancelled: set[Activity] = set()
        """What was under way when it was cancelled: a replay cancels it again, when it has ended."""
        self.kept = 0
        """How many wishes were kept from the server, replays among them."""

    def apply(self, patched: pytest.MonkeyPatch) -> None:
        poll, end, complete = (
            Bridge.poll_activity_task,
            Bridge.complete_activity_task,
            Bridge.complete_workflow_activation,
        )

        async def poll_activity_task(bridge: Bridge) -> ActivityTask:
            task = await poll(bridge)
            if task.HasField("start"):
                self._tokens[task.task_token] = (task.start.workflow_execution.run_id, task.start.activity_id)
            return task

        async def complete_activity_task(bridge: Bridge, completion: ActivityTaskCompletion) -> None:
            async with self._lock:
                await end(bridge, completion)
                activity = self._tokens.pop(completion.task_token, None)
                if activity is not None and _for_good(completion):
                    self._ended.add(activity)

        async def complete_workflow_activation(bridge: Bridge, completion: WorkflowActivationCompletion) -> None:
            if not any(command.HasField("request_cancel_activity") for command in completion.successful.commands):
                await complete(bridge, completion)
                return
            # Nothing ends between this look and the server's.
            async with self._lock:
                self._sift(completion)
                await complete(bridge, completion)

        patched.setattr(Bridge, "poll_activity_task", poll_activity_task)
        patched.setattr(Bridge, "complete_activity_task", complete_activity_task)
        patched.setattr(Bridge, "complete_workflow_activation", complete_workflow_activation)

    def _sift(self, completion: WorkflowActivationCompletion) -> None:
        commands = list(completion.successful.commands)
        del completion.successful.commands[:]
        for command in commands:
            if command.HasField("request_cancel_activity"):
                activity = (completion.run_id, str(command.request_cancel_activity.seq))
                if activity in self._ended - self._cancelled:
                    self.kept += 1
                    continue
                self._cancelled.add(activity)
            completion.successful.commands.append(command)


def _for_good(completion: ActivityTaskCompletion) -> bool:
    """Whether no other attempt follows; the engine's activities are tried again until a failure says not to."""
    result = completion.result
    if result.HasField("failed"):
        return result.failed.failure.application_failure_info.non_retryable
    return not result.HasField("will_complete_async")
