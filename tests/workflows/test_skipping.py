"""The time-skipping server, where it does less than the real one."""

import asyncio
import threading
from datetime import timedelta
from uuid import uuid4

import pytest
from temporalio import activity, workflow
from temporalio.api.testservice.v1 import LockTimeSkippingRequest
from temporalio.exceptions import ActivityError
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from tests.support.skipping import CancelsOfWhatEnded, let_pass, time_skipping

_LOOP: list[asyncio.AbstractEventLoop] = []
_HAS_BEGUN = asyncio.Event()
_LET_IT_END = asyncio.Event()
_HAS_ENDED = threading.Event()


@activity.defn
async def work() -> str:
    _HAS_BEGUN.set()
    await _LET_IT_END.wait()
    return "done"


@workflow.defn
class CancelsTooLate:
    """Cancels an activity that ends while the workflow task is under way that cancels it."""

    def __init__(self) -> None:
        self._cancel = False

    @workflow.run
    async def run(self) -> str:
        handle = workflow.start_activity(work, start_to_close_timeout=timedelta(minutes=1))
        await workflow.wait_condition(lambda: self._cancel)
        if not handle.done():
            # As slow a task as it takes: without the wait the order of the two would be left to chance.
            _LOOP[0].call_soon_threadsafe(_LET_IT_END.set)
            _HAS_ENDED.wait(60)
            handle.cancel()
        try:
            return await handle
        except ActivityError:
            return "cancelled"

    @workflow.update
    async def cancel(self) -> None:
        self._cancel = True


async def test_an_activity_that_ends_as_it_is_cancelled_does_not_stop_its_workflow(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Seen(set[tuple[str, str]]):
        def add(self, element: tuple[str, str]) -> None:
            super().add(element)
            _HAS_ENDED.set()

    guards: list[CancelsOfWhatEnded] = []
    prepare = CancelsOfWhatEnded.__init__

    def prepared(guard: CancelsOfWhatEnded) -> None:
        prepare(guard)
        guard._ended = Seen()
        guards.append(guard)

    monkeypatch.setattr(CancelsOfWhatEnded, "__init__", prepared)
    _LOOP[:] = [asyncio.get_running_loop()]
    async with (
        time_skipping() as environment,
        Worker(
            environment.client,
            task_queue="q",
            workflows=[CancelsTooLate],
            activities=[work],
            workflow_runner=UnsandboxedWorkflowRunner(),
        ) as worker,
    ):
        assert worker._workflow_worker is not None
        worker._workflow_worker._deadlock_timeout_seconds = 90
        handle = await environment.client.start_workflow(CancelsTooLate.run, id=f"w-{uuid4().hex}", task_queue="q")
        await _HAS_BEGUN.wait()
        await handle.execute_update(CancelsTooLate.cancel)
        assert await handle.result() == "done"
    assert guards[0].kept == 1


async def test_time_passes_though_the_server_holds_it_for_a_task_that_is_over() -> None:
    async with time_skipping() as environment:
        await environment.client.test_service.lock_time_skipping(LockTimeSkippingRequest())
        before = await environment.get_current_time()
        await let_pass(environment, timedelta(hours=1), patience=1)
        assert await environment.get_current_time() - before >= timedelta(hours=1)
        # What is let go of was the one too many: the time that nobody asks to pass stands still as ever.
        after = await environment.get_current_time()
        await asyncio.sleep(0.5)
        assert await environment.get_current_time() - after < timedelta(minutes=1)
