"""The time-skipping test server, and a way around its one flaw that the engine runs into.

When an activity ends while a workflow task is under way, and that task asks for the activity to be cancelled, the real
server goes on: the end is in the next task. This one refuses the task (`ACTIVITY_UNKNOWN for scheduledEventId=...`) and
never times it out: the workflow stands still for good. So a task that asks for this is failed here, once, before the
server sees it; the server gives it out anew, with the end of the activity in it.
"""

import asyncio
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from temporalio.bridge.proto import ActivityTaskCompletion
from temporalio.bridge.proto.activity_task import ActivityTask
from temporalio.bridge.proto.workflow_activation import WorkflowActivation
from temporalio.bridge.proto.workflow_completion import WorkflowActivationCompletion
from temporalio.bridge.worker import Worker as Bridge
from temporalio.contrib.pydantic import pydantic_data_converter
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


class CancelsOfWhatEnded:
    """Holds back workflow tasks that cancel what has just ended."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()
        self._tokens: dict[bytes, Activity] = {}
        self._ended: set[Activity] = set()
        self._replaying: set[str] = set()
        self.held_back = 0

    def apply(self, patched: pytest.MonkeyPatch) -> None:
        poll, end = Bridge.poll_activity_task, Bridge.complete_activity_task
        activate, complete = Bridge.poll_workflow_activation, Bridge.complete_workflow_activation

        async def poll_workflow_activation(bridge: Bridge) -> WorkflowActivation:
            activation = await activate(bridge)
            if activation.is_replaying:
                self._replaying.add(activation.run_id)
            else:
                self._replaying.discard(activation.run_id)
            return activation

        async def poll_activity_task(bridge: Bridge) -> ActivityTask:
            task = await poll(bridge)
            if task.HasField("start"):
                self._tokens[task.task_token] = (task.start.workflow_execution.run_id, task.start.activity_id)
            return task

        async def complete_activity_task(bridge: Bridge, completion: ActivityTaskCompletion) -> None:
            async with self._lock:
                await end(bridge, completion)
                if (activity := self._tokens.pop(completion.task_token, None)) is not None:
                    self._ended.add(activity)

        async def complete_workflow_activation(bridge: Bridge, completion: WorkflowActivationCompletion) -> None:
            cancelled = _cancelled(completion)
            # What is replayed, to answer a query for one, was let through before.
            if not cancelled or completion.run_id in self._replaying:
                await complete(bridge, completion)
                return
            # Nothing ends between the look and the server's.
            async with self._lock:
                if self._ended & cancelled:
                    # A failed attempt that is tried again has ended as well: the second time is let through.
                    self._ended -= cancelled
                    self.held_back += 1
                    reason = "an activity ended that this task cancels"
                    completion = WorkflowActivationCompletion(run_id=completion.run_id)
                    completion.failed.failure.message = reason
                await complete(bridge, completion)

        patched.setattr(Bridge, "poll_workflow_activation", poll_workflow_activation)
        patched.setattr(Bridge, "poll_activity_task", poll_activity_task)
        patched.setattr(Bridge, "complete_activity_task", complete_activity_task)
        patched.setattr(Bridge, "complete_workflow_activation", complete_workflow_activation)


def _cancelled(completion: WorkflowActivationCompletion) -> set[Activity]:
    return {
        (completion.run_id, str(command.request_cancel_activity.seq))
        for command in completion.successful.commands
        if command.HasField("request_cancel_activity")
    }
