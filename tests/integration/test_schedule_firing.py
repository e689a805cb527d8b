"""ScheduledMessageWorkflow: what it does when its time is up or it is cancelled, whatever its activities are at."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from temporalio import activity
from temporalio.client import Client, WorkflowFailureError, WorkflowHandle
from temporalio.exceptions import ApplicationError, CancelledError
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import Worker

from hibernaut.contracts import TASK_QUEUE, names, schedules, stubs
from hibernaut.models import Answer, AnswerState
from workers.registry import WORKFLOWS, workflow_runner


@dataclass
class Desk:
    """Activities of schedules that pretend; what they did is in `done`, in order."""

    client: Client
    done: list[str] = field(default_factory=list[str])
    sending: asyncio.Event = field(default_factory=asyncio.Event)
    gate: asyncio.Event | None = None
    """What the sending waits for, deaf to its cancellation."""
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    stop_gate: asyncio.Event | None = None
    failures: Sequence[BaseException] = ()
    """What every look at the answer fails with."""

    @activity.defn(name=stubs.SCHEDULE_SEND.name)
    async def send(self, request: schedules.ScheduleSendRequest) -> schedules.ScheduleSendResult:
        del request
        self.sending.set()
        while self.gate is not None and not self.gate.is_set():
            activity.heartbeat()
            try:
                await asyncio.sleep(0.05)
            except asyncio.CancelledError:
                self.done.append("heard")
        self.done.append("sent")
        return schedules.ScheduleSendResult()

    @activity.defn(name=stubs.SCHEDULE_WAIT.name)
    async def wait(self, request: schedules.ScheduleWaitRequest) -> Answer:
        for failure in self.failures:
            raise failure
        return Answer(message_id=request.message_id, state=AnswerState.DONE, text="done")

    @activity.defn(name=stubs.SCHEDULE_STOP.name)
    async def stop(self, request: schedules.ScheduleStopRequest) -> schedules.ScheduleStopResult:
        del request
        self.stopping.set()
        while self.stop_gate is not None and not self.stop_gate.is_set():
            activity.heartbeat()
            await asyncio.sleep(0.05)
        self.done.append("stopped")
        return schedules.ScheduleStopResult(interrupted=True)

    @activity.defn(name=stubs.SCHEDULE_FINISH.name)
    async def finish(self, request: schedules.ScheduleFinishRequest) -> schedules.ScheduleFinishResult:
        del request
        self.done.append("finished")
        return schedules.ScheduleFinishResult()

    async def fire(self, **options: Any) -> WorkflowHandle[Any, schedules.FiringResult]:  # noqa: ANN401  # of the request
        target = {} if "spec" in options else {"agent_id": "weekly-report"}
        return await self.client.start_workflow(
            names.SCHEDULED_MESSAGE_WORKFLOW,
            schedules.ScheduledMessage(schedule="weekly", message="go", **target, **options),
            id=f"firing-{uuid4().hex[:8]}",
            task_queue=TASK_QUEUE,
            result_type=schedules.FiringResult,
        )

    async def failure(self, firing: WorkflowHandle[Any, schedules.FiringResult]) -> BaseException | None:
        with pytest.raises(WorkflowFailureError) as raised:
            await firing.result()
        return raised.value.cause


@pytest.fixture
async def desk(agents_server: WorkflowEnvironment) -> AsyncIterator[Desk]:
    desk = Desk(agents_server.client)
    async with Worker(
        desk.client,
        task_queue=TASK_QUEUE,
        workflows=list(WORKFLOWS),
        activities=[desk.send, desk.wait, desk.stop, desk.finish],
        workflow_runner=workflow_runner(),
        max_heartbeat_throttle_interval=timedelta(milliseconds=50),
    ):
        yield desk
        if desk.gate is not None:
            desk.gate.set()


@pytest.mark.parametrize(("options", "end"), [({}, "stopped"), ({"spec": {"model": "scripted"}}, "finished")])
async def test_a_cancelled_firing_looks_what_is_left_when_nobody_sends_any_more(
    desk: Desk, options: dict[str, Any], end: str
) -> None:
    desk.gate = asyncio.Event()
    firing = await desk.fire(**options)
    await desk.sending.wait()
    await firing.cancel()
    while "heard" not in desk.done:
        await asyncio.sleep(0.02)
    # Whatever it does in vain, it would have done by now.
    await asyncio.sleep(0.3)
    assert desk.done == ["heard"]
    desk.gate.set()
    assert isinstance(await desk.failure(firing), CancelledError)
    assert desk.done == ["heard", "sent", end]


async def test_a_short_run_timeout_leaves_time_for_the_sending(desk: Desk) -> None:
    desk.gate = asyncio.Event()
    firing = await desk.fire(run_timeout=timedelta(milliseconds=100))
    await desk.sending.wait()
    await asyncio.sleep(0.3)
    desk.gate.set()
    assert (await firing.result()).text == "done"
    assert desk.done == ["sent"]


async def test_a_message_that_cannot_be_sent_in_time_is_taken_back(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schedules, "SENDING", timedelta(milliseconds=300))
    desk.gate = asyncio.Event()
    firing = await desk.fire(run_timeout=timedelta(milliseconds=100))
    await desk.sending.wait()
    while "heard" not in desk.done:
        await asyncio.sleep(0.02)
    desk.failures = [ApplicationError("not yet", type=names.NOT_YET)]
    desk.gate.set()
    cause = await desk.failure(firing)
    assert isinstance(cause, ApplicationError)
    assert cause.type == "RunTimeout"
    assert desk.done == ["heard", "sent", "stopped"]


@pytest.mark.parametrize("kind", [names.NOT_YET, "NoWorker", "TemporalUnreachable"])
async def test_a_firing_is_late_whatever_its_last_look_failed_with(desk: Desk, kind: str) -> None:
    desk.failures = [ApplicationError("the agent does not answer", type=kind)]
    firing = await desk.fire(run_timeout=timedelta(seconds=1))
    cause = await desk.failure(firing)
    assert isinstance(cause, ApplicationError)
    assert cause.type == "RunTimeout"
    assert cause.message.startswith("weekly-report gave no answer within 1 s")
    assert desk.done == ["sent", "stopped"]


async def test_a_firing_that_is_cancelled_while_it_takes_its_message_back_does_so(desk: Desk) -> None:
    desk.failures = [ApplicationError("not yet", type=names.NOT_YET)]
    desk.stop_gate = asyncio.Event()
    firing = await desk.fire(run_timeout=timedelta(seconds=1))
    await desk.stopping.wait()
    await firing.cancel()
    with pytest.raises(TimeoutError):
        # The cancellation is seen, and is no reason to stop here.
        await asyncio.wait_for(firing.result(), 0.5)
    desk.stop_gate.set()
    cause = await desk.failure(firing)
    assert isinstance(cause, ApplicationError)
    assert cause.type == "RunTimeout"
    assert desk.done == ["sent", "stopped"]


async def test_what_cannot_be_mended_is_no_matter_of_time(desk: Desk) -> None:
    desk.failures = [ApplicationError("there is no agent", type="AgentNotFound", non_retryable=True)]
    cause = await desk.failure(await desk.fire(run_timeout=timedelta(seconds=1)))
    assert isinstance(cause, ApplicationError)
    assert (cause.type, cause.message) == ("AgentNotFound", "there is no agent")
    assert desk.done == ["sent"]
