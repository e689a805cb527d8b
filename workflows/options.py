"""Timeout, retry policy and task queue of every activity, in one place."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from types import MappingProxyType
from typing import TypeVar

from temporalio import workflow
from temporalio.common import RetryPolicy
from temporalio.workflow import ActivityCancellationType, ActivityHandle

from hibernaut import contracts
from hibernaut.contracts import stubs
from workflows import bounds

WAIT_CANCELLATION_COMPLETED = ActivityCancellationType.WAIT_CANCELLATION_COMPLETED
RequestT = TypeVar("RequestT")
ResultT = TypeVar("ResultT")

SUMMARY_LENGTH = 120
"""Characters of a summary: Temporal's limit is 400 bytes, a line of the web UI about this."""


@dataclass(frozen=True, slots=True)
class Options:
    """How one activity is run. Attempts are unlimited: what is worth giving up raises a non-retryable error."""

    start_to_close: timedelta
    heartbeat: timedelta | None
    retry: RetryPolicy
    cancellation: ActivityCancellationType = ActivityCancellationType.TRY_CANCEL
    schedule_to_start: timedelta | None = None
    """How long a task may wait for a worker, each attempt anew; then the host is asked whether it is there."""


UNCLAIMED_AFTER = timedelta(seconds=10)
"""A worker that has room takes a task within milliseconds. One that has none answers `host.ping` all the same."""


def _retry(initial: float, maximum: float, growth: float = 2.0) -> RetryPolicy:
    return RetryPolicy(
        initial_interval=timedelta(seconds=initial),
        backoff_coefficient=growth,
        maximum_interval=timedelta(seconds=maximum),
    )


def _on_host(
    start_to_close: timedelta,
    heartbeat_s: float,
    retry: RetryPolicy,
    cancellation: ActivityCancellationType = ActivityCancellationType.TRY_CANCEL,
) -> Options:
    return Options(start_to_close, timedelta(seconds=heartbeat_s), retry, cancellation, UNCLAIMED_AFTER)


OPTIONS: Mapping[str, Options] = MappingProxyType(
    {
        # A reasoning model may be silent for minutes; the heartbeat tells a dead worker from a slow provider.
        # One that is given up says what it may have cost: that is worth waiting for, see `workflows.giving_up`.
        contracts.MODEL_CALL.name: Options(
            timedelta(minutes=30), timedelta(seconds=20), _retry(1, 60), WAIT_CANCELLATION_COMPLETED
        ),
        # How long a call may take, and how often it may be tried, is the spec's to say.
        contracts.MCP_CALL.name: Options(timedelta(minutes=1), timedelta(seconds=20), _retry(1, 60)),
        # It touches nothing; a task handed to the dead poll of a host that was cut off is worth giving up soon.
        contracts.PLACEMENT_CHOOSE.name: Options(timedelta(seconds=5), None, _retry(0.5, 15)),
        contracts.SANDBOX_ACQUIRE.name: _on_host(timedelta(minutes=10), 20, _retry(1, 30)),
        contracts.SANDBOX_DESTROY.name: _on_host(timedelta(minutes=5), 20, _retry(1, 60)),
        contracts.SANDBOX_ASSESS.name: _on_host(timedelta(minutes=5), 20, _retry(0.5, 30)),
        # start-to-close is the commands' own limit plus a margin, set by the caller. On cancellation the partial
        # output is worth waiting for.
        contracts.SHELL_EXEC.name: _on_host(timedelta(hours=24), 15, _retry(0.5, 15), WAIT_CANCELLATION_COMPLETED),
        contracts.NETWORK_APPLY.name: _on_host(timedelta(minutes=2), 20, _retry(0.5, 15)),
        contracts.SNAPSHOT_TAKE.name: _on_host(timedelta(hours=1), 30, _retry(1, 60)),
        contracts.SNAPSHOT_RESTORE.name: _on_host(timedelta(hours=1), 30, _retry(1, 60)),
        contracts.ARTIFACT_PUBLISH.name: _on_host(timedelta(hours=1), 30, _retry(1, 30)),
        contracts.FILES_PUT.name: _on_host(timedelta(minutes=30), 30, _retry(1, 30)),
        contracts.IMAGE_LOAD.name: _on_host(timedelta(hours=1), 30, _retry(1, 60)),
        contracts.IMAGE_KEEP.name: _on_host(timedelta(hours=1), 30, _retry(5, 300)),
        contracts.HOSTS_LIST.name: Options(timedelta(minutes=1), None, _retry(1, 60)),
        # A host that has gone for good is asked every time: nobody waits long for it.
        contracts.SANDBOX_SWEEP.name: Options(
            timedelta(minutes=5), timedelta(seconds=20), _retry(1, 30), schedule_to_start=timedelta(seconds=30)
        ),
        # schedule-to-close is set by the caller: it is what the host's lease allows.
        contracts.HOST_PING.name: Options(timedelta(seconds=5), None, _retry(0.5, 2)),
        contracts.TRANSCRIPT_KEEP.name: Options(timedelta(minutes=1), None, _retry(0.5, 30)),
        # One or several model calls.
        contracts.TRANSCRIPT_COMPACT.name: Options(
            timedelta(minutes=30), timedelta(seconds=20), _retry(1, 60), WAIT_CANCELLATION_COMPLETED
        ),
        contracts.EVENTS_APPEND.name: Options(timedelta(minutes=1), None, _retry(0.5, 30)),
        contracts.CHECKPOINT_FIND.name: Options(timedelta(minutes=10), timedelta(seconds=30), _retry(0.5, 30)),
        contracts.AGENT_FORK.name: Options(timedelta(hours=1), timedelta(seconds=30), _retry(1, 60)),
        contracts.AGENT_REWIND.name: Options(timedelta(minutes=10), timedelta(seconds=30), _retry(1, 60)),
        contracts.AGENT_PURGE.name: Options(timedelta(hours=1), timedelta(minutes=1), _retry(1, 60)),
        contracts.AGENT_FORGET.name: Options(timedelta(minutes=30), timedelta(minutes=1), _retry(1, 60)),
        stubs.AGENT_SURVEY.name: Options(timedelta(hours=1), timedelta(minutes=1), _retry(1, 60)),
        stubs.AGENT_CERTIFY.name: Options(timedelta(hours=2), timedelta(minutes=1), _retry(1, 60)),
        # Heartbeats carry how far they are, and a retry goes on from there: however much there is to read, a worker
        # that dies costs little.
        contracts.SNAPSHOTS_AGENTS.name: Options(timedelta(minutes=30), timedelta(seconds=30), _retry(1, 60)),
        contracts.SNAPSHOTS_VERIFY.name: Options(timedelta(hours=24), timedelta(seconds=30), _retry(1, 60)),
        contracts.SNAPSHOTS_PRUNE.name: Options(timedelta(hours=2), timedelta(seconds=30), _retry(1, 60)),
        contracts.SNAPSHOTS_PRUNE_AGENTS.name: Options(timedelta(hours=6), timedelta(seconds=30), _retry(1, 60)),
        contracts.SNAPSHOTS_COLLECT.name: Options(timedelta(hours=12), timedelta(seconds=30), _retry(1, 60)),
        contracts.SNAPSHOTS_NAME.name: Options(timedelta(minutes=1), None, _retry(0.5, 30)),
        contracts.IMAGES_VERIFY.name: Options(timedelta(hours=24), timedelta(seconds=30), _retry(1, 60)),
        contracts.IMAGES_COLLECT.name: Options(timedelta(hours=2), timedelta(seconds=30), _retry(1, 60)),
        stubs.SCHEDULE_SEND.name: Options(timedelta(minutes=2), timedelta(seconds=20), _retry(1, 30)),
        # An attempt is one look; between two, the server waits, and nobody's slot is held: a hundred firings that wait
        # must not keep the model calls from running that they wait for.
        stubs.SCHEDULE_WAIT.name: Options(timedelta(minutes=1), timedelta(seconds=20), _retry(0.5, 15, 1.2)),
        stubs.SCHEDULE_STOP.name: Options(timedelta(minutes=1), timedelta(seconds=20), _retry(1, 15)),
        # As those of schedules: an attempt is one look.
        stubs.CHILD_WAIT.name: Options(timedelta(minutes=1), timedelta(seconds=20), _retry(0.25, 15, 1.2)),
        stubs.CHILD_CLOSE.name: Options(timedelta(minutes=5), timedelta(seconds=20), _retry(0.25, 15, 1.2)),
        stubs.CHILD_FIND.name: Options(timedelta(minutes=1), timedelta(seconds=20), _retry(0.5, 15)),
        stubs.SCHEDULE_FINISH.name: Options(timedelta(minutes=5), timedelta(seconds=20), _retry(0.5, 15, 1.2)),
    }
)


def start(
    stub: contracts.ActivityStub[RequestT, ResultT],
    request: RequestT,
    *,
    summary: str,
    task_queue: str = contracts.TASK_QUEUE,
    start_to_close: timedelta | None = None,
    schedule_to_close: timedelta | None = None,
    cancellation: ActivityCancellationType | None = None,
) -> ActivityHandle[ResultT]:
    """Schedule an activity with its own options; `summary` is its line in the web UI."""
    bounds.note_work()
    options = OPTIONS[stub.name]
    handle: ActivityHandle[ResultT] = workflow.start_activity(
        stub.name,
        request,
        result_type=stub.result,
        task_queue=task_queue,
        start_to_close_timeout=start_to_close or options.start_to_close,
        schedule_to_start_timeout=options.schedule_to_start,
        schedule_to_close_timeout=schedule_to_close,
        heartbeat_timeout=options.heartbeat,
        retry_policy=options.retry,
        cancellation_type=options.cancellation if cancellation is None else cancellation,
        summary=summary_line(summary),
    )
    return handle


async def call(
    stub: contracts.ActivityStub[RequestT, ResultT],
    request: RequestT,
    *,
    summary: str,
    task_queue: str = contracts.TASK_QUEUE,
    schedule_to_close: timedelta | None = None,
) -> ResultT:
    """Run an activity to its end."""
    return await start(stub, request, summary=summary, task_queue=task_queue, schedule_to_close=schedule_to_close)


def summary_line(text: str) -> str:
    """A text as an activity's line in the web UI."""
    line = " ".join(text.split())
    return line if len(line) <= SUMMARY_LENGTH else line[: SUMMARY_LENGTH - 1] + "…"
