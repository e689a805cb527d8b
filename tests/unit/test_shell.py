"""shell.exec over sandboxes that behave as told: what is kept, what is told, and who may end a command."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from temporalio.activity import ActivityCancellationDetails
from temporalio.testing import ActivityEnvironment

from activities.adapters.local_store import LocalStore
from activities.errors import SandboxLost
from activities.items import load_record
from activities.ports.sandbox import CommandEnd, CommandRequest, Sink
from activities.shell import ShellActivities
from activities.transcript import Transcript
from hibernaut.contracts import ExecRequest, ExecResult, LiveOutput, StoreKeys
from hibernaut.models import LeaseStatus, OutcomeKind

LEASE = LeaseStatus(generation=1, host_id="h", task_queue="q", sandbox_id="s", image_id="i", started_at="then")
EXIT = CommandEnd(OutcomeKind.EXIT, 0, 10, 0, 0)


@dataclass
class Boxes:
    """Plays one sandbox: for each command its output, then its end or error."""

    ends: list[CommandEnd | SandboxLost]
    output: bytes = b""
    hold: bool = False
    """Whether a command runs until it is interrupted."""
    asked: list[CommandRequest] = field(default_factory=list[CommandRequest])
    abandoned: int = 0
    begun: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(
        self, sandbox_id: str, request: CommandRequest, sink: Sink, interrupted: Callable[[], bool]
    ) -> CommandEnd:
        assert sandbox_id == LEASE.sandbox_id
        self.asked.append(request)
        if self.output and (slow := sink("stdout", self.output)) is not None:
            await slow
        self.begun.set()
        try:
            while self.hold and not interrupted():
                await asyncio.sleep(0.01)
        except asyncio.CancelledError:
            self.abandoned += 1
            raise
        end = self.ends.pop(0)
        if isinstance(end, SandboxLost):
            raise end
        return replace(end, stdout_bytes=len(self.output))


def request(*commands: str, **more: object) -> ExecRequest:
    body = {
        "agent_uid": "0123",
        "lease": LEASE,
        "exec_prefix": "b0-s1-c0",
        "call_id": "call",
        "commands": commands,
        "timeout_ms": 5_000,
        "max_output_length": 1_000,
        **more,
    }
    return ExecRequest.model_validate(body)


class Desk:
    """The activity, its store, and the environment it runs in."""

    def __init__(self, home: Path, boxes: Boxes, attempt: int = 1) -> None:
        self.store = LocalStore(home)
        self.environment = ActivityEnvironment()
        self.environment.info = replace(self.environment.info, attempt=attempt)
        self.beats: list[LiveOutput] = []
        self.environment.on_heartbeat = lambda *details: self.beats.extend(details)
        self.activity = ShellActivities(boxes, self.store, Transcript(self.store))  # pyright: ignore[reportArgumentType]  # plays `run` alone

    async def run(self, asked: ExecRequest) -> ExecResult:
        return await self.environment.run(self.activity.exec, asked)


async def test_bounds_and_identity_reach_the_sandbox(tmp_path: Path) -> None:
    boxes = Boxes([EXIT, replace(EXIT, exit_code=3, background=("7 sleep",), detail="said")], output=b"hello\n")
    desk = Desk(tmp_path, boxes)
    result = await desk.run(request("one", "two", max_output_bytes=4_242))
    assert [(one.exec_id, one.command) for one in boxes.asked] == [("b0-s1-c0-i0", "one"), ("b0-s1-c0-i1", "two")]
    assert {(one.started_at, one.max_output_bytes, one.attach_only) for one in boxes.asked} == {("then", 4_242, False)}
    assert (result.outcomes[1].background, result.outcomes[1].detail) == (("7 sleep",), "said")
    record = await load_record(result.record_ref, desk.store)
    assert (record.commands[1].stdout, record.commands[1].background) == ("hello\n", ("7 sleep",))
    assert [info.key async for info in desk.store.list("agents/")] == [result.record_ref], "short output is kept once"


async def test_long_output_is_in_the_store_and_its_ends_in_the_record(tmp_path: Path) -> None:
    output = "".join(f"{n} ä\n" for n in range(300_000)).encode()
    desk = Desk(tmp_path, Boxes([EXIT], output=output))
    result = await desk.run(request("long"))
    assert result.outcomes[0].truncated
    assert result.outcomes[0].stdout_bytes == len(output)
    prefix = StoreKeys.exec_chunks("0123", "b0-s1-c0-i0", "stdout")
    whole = b"".join([await desk.store.get(info.key) async for info in desk.store.list(prefix)])
    assert whole == output


async def test_heartbeats_tell_the_newest_output(tmp_path: Path) -> None:
    boxes = Boxes([replace(EXIT, kind=OutcomeKind.INTERRUPTED)], output="zeile eins\nä".encode() + b"\xc3", hold=True)
    desk = Desk(tmp_path, boxes)
    running = asyncio.create_task(desk.run(request("slow")))
    async with asyncio.timeout(20):
        while not any(beat.stdout for beat in desk.beats):
            await asyncio.sleep(0.05)
    newest = desk.beats[-1]
    assert (newest.exec_id, newest.command) == ("b0-s1-c0-i0", "slow")
    assert (newest.stdout, newest.stdout_bytes) == ("zeile eins\nä", 13)
    desk.environment.cancel()
    await running


async def test_a_cancellation_the_workflow_asked_for_ends_the_command(tmp_path: Path) -> None:
    boxes = Boxes([replace(EXIT, kind=OutcomeKind.INTERRUPTED, exit_code=None)], output=b"part", hold=True)
    desk = Desk(tmp_path, boxes)
    running = asyncio.create_task(desk.run(request("slow", "next")))
    await boxes.begun.wait()
    desk.environment.cancel()
    result = await running
    assert [outcome.kind for outcome in result.outcomes] == [OutcomeKind.INTERRUPTED, OutcomeKind.NOT_RUN]
    assert (result.outcomes[0].stdout_head, boxes.abandoned) == ("part", 0)


@pytest.mark.parametrize("why", ["not_found", "timed_out", "reset", "paused", "worker_shutdown"])
async def test_an_attempt_that_is_outdated_leaves_the_command_running(tmp_path: Path, why: str) -> None:
    boxes = Boxes([EXIT], hold=True)
    desk = Desk(tmp_path, boxes)
    running = asyncio.create_task(desk.run(request("slow")))
    await boxes.begun.wait()
    desk.environment.cancel(ActivityCancellationDetails(**{why: True}))
    with pytest.raises(asyncio.CancelledError):
        await running
    await asyncio.sleep(0)
    assert (boxes.abandoned, len(boxes.ends)) == (1, 1)


async def test_a_command_that_wrote_too_much_does_not_keep_the_next_from_running(tmp_path: Path) -> None:
    full = replace(EXIT, kind=OutcomeKind.INTERRUPTED, exit_code=None, detail="ended: it wrote more than 9 bytes")
    result = await Desk(tmp_path, Boxes([full, EXIT])).run(request("yes", "next"))
    assert [outcome.kind for outcome in result.outcomes] == [OutcomeKind.INTERRUPTED, OutcomeKind.EXIT]


async def test_after_a_restart_the_journal_is_asked_for_every_command(tmp_path: Path) -> None:
    def lost(kind: OutcomeKind) -> SandboxLost:
        end = replace(EXIT, kind=kind, exit_code=0 if kind is OutcomeKind.EXIT else None, detail="known")
        return SandboxLost("the container was restarted: it was", started=True, end=end)

    kinds = [OutcomeKind.EXIT, OutcomeKind.UNKNOWN, OutcomeKind.NOT_RUN]
    boxes = Boxes([lost(kind) for kind in kinds])
    result = await Desk(tmp_path, boxes, attempt=2).run(request("one", "two", "three"))
    assert [outcome.kind for outcome in result.outcomes] == kinds
    assert result.lost == "the container was restarted: it was"
    assert [one.attach_only for one in boxes.asked] == [False, True, True]


@pytest.mark.parametrize(("attempt", "rest"), [(1, OutcomeKind.NOT_RUN), (2, OutcomeKind.UNKNOWN)])
async def test_a_container_that_is_gone_tells_nothing_more(tmp_path: Path, attempt: int, rest: OutcomeKind) -> None:
    boxes = Boxes([SandboxLost("the container is gone", started=True)], output=b"last words")
    result = await Desk(tmp_path, boxes, attempt).run(request("one", "two"))
    assert [outcome.kind for outcome in result.outcomes] == [OutcomeKind.UNKNOWN, rest]
    assert (result.lost, result.outcomes[0].stdout_head) == ("the container is gone", "last words")


async def test_attach_only_is_handed_on(tmp_path: Path) -> None:
    boxes = Boxes([replace(EXIT, kind=OutcomeKind.NOT_RUN, exit_code=None)] * 2)
    result = await Desk(tmp_path, boxes).run(request("one", "two", attach_only=True))
    assert [outcome.kind for outcome in result.outcomes] == [OutcomeKind.NOT_RUN] * 2
    assert all(one.attach_only for one in boxes.asked)
    assert result.lost is None
