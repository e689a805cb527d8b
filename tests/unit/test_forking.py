"""What the activities behind forks and rewinds write: a conversation that every wire takes."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from temporalio.testing import ActivityEnvironment

from activities.adapters.local_store import LocalStore
from activities.checkpoints import CheckpointGone
from activities.forking import NOT_KNOWN, BranchActivities
from activities.records import ExecRecord, ExecutedCommand
from activities.snapshots.engine import Engine
from activities.transcript import Segment, Transcript, unanswered
from hibernaut import contracts as c
from hibernaut.models import Checkpoint, CheckpointFiles, OutcomeKind, ToolCall, Usage
from tests.support.memory_capture import MemoryCapture

NOW = datetime(2026, 1, 1, tzinfo=UTC)
CALLS = tuple(ToolCall(call_id=f"call_{index}", kind="shell_call", commands=(f"echo {index}",)) for index in range(2))
NOTE = {"type": "message", "role": "developer", "content": [{"type": "input_text", "text": "[hibernaut] lost"}]}


def user(text: str) -> dict[str, Any]:
    return {"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]}


def output(call_id: str) -> dict[str, Any]:
    return {"type": "shell_call_output", "call_id": call_id, "output": [{"stdout": f"of {call_id}"}]}


class Past:
    """An agent's conversation in a store."""

    def __init__(self, folder: Path) -> None:
        self.store = LocalStore(folder)
        self.transcript = Transcript(self.store)
        self.activities = BranchActivities(self.transcript, Engine(self.store, MemoryCapture()))
        self.environment = ActivityEnvironment()

    async def step(
        self, step: int, previous: str | None, *, new: tuple[dict[str, Any], ...] = (), calls: tuple[ToolCall, ...] = ()
    ) -> str:
        reply = tuple({"type": "shell_call", "call_id": call.call_id} for call in calls)
        segment = Segment(
            agent_uid="old",
            branch=0,
            step=step,
            ordinal=0,
            previous=previous,
            request_digest=f"digest {step}",
            new_items=new,
            reply_items=reply or (user(f"reply {step}") | {"role": "assistant"},),
            text="",
            refusal=False,
            tool_calls=calls,
            usage=Usage(),
            provider="default",
            model="m",
            response_id=None,
            created_at=NOW,
            duration_ms=0,
        )
        await self.transcript.keep(segment)
        return segment.key

    async def rewind(self, ref: str, step: int, *pending: c.NewItem) -> list[Segment]:
        found = c.FoundCheckpoint(checkpoint=point(ref, step), pending=pending)
        request = c.OpenBranchRequest(agent_uid="old", generation=1, branch=1, found=found)
        result = await self.environment.run(self.activities.rewind, request)
        again = await self.environment.run(self.activities.rewind, request)
        assert again == result
        return await self.transcript.segments(result.transcript_ref)

    async def fork(self, ref: str, step: int, *, files: CheckpointFiles | None = None) -> list[Segment]:
        request = c.ForkStateRequest(
            agent_uid="old",
            checkpoint=point(ref, step).model_copy(update={"snapshot": files}),
            new_uid="new",
            branch=1,
            generation=1,
        )
        result = await self.environment.run(self.activities.fork, request)
        again = await self.environment.run(self.activities.fork, request)
        assert again.transcript_ref == result.transcript_ref
        return await Transcript(self.store).segments(result.transcript_ref)


def point(ref: str, step: int) -> Checkpoint:
    return Checkpoint(branch=0, step=step, at=NOW, segment_ref=ref)


@pytest.fixture
def past(tmp_path: Path) -> Past:
    return Past(tmp_path)


async def test_a_fork_has_the_same_conversation_under_its_own_keys(past: Past) -> None:
    first = await past.step(0, None, new=(user("go"),), calls=CALLS)
    second = await past.step(1, first, new=(output("call_0"), output("call_1"), NOTE, user("more")))
    whole = await past.fork(second, 1)
    assert [segment.key for segment in whole] == [c.StoreKeys.segment("new", 0, step, 0) for step in (0, 1)]
    old = await past.transcript.segments(second)
    assert [(one.new_items, one.reply_items) for one in whole] == [(one.new_items, one.reply_items) for one in old]


async def test_the_calls_of_the_step_are_answered_with_what_the_model_heard(past: Past) -> None:
    first = await past.step(0, None, new=(user("go"),), calls=CALLS)
    await past.step(1, first, new=(output("call_0"), output("call_1"), NOTE, user("more")))
    for segments in (await past.fork(first, 0), await past.rewind(first, 0)):
        joint = segments[-1]
        assert (joint.branch, joint.step, joint.reply_items) == (1, 0, ())
        assert list(joint.new_items) == [output("call_0"), output("call_1"), NOTE], "but not what a person said"
        assert unanswered(segments[-2], joint.new_items) == []


async def test_what_the_model_has_not_heard_yet_is_told(past: Past) -> None:
    first = await past.step(0, None, new=(user("go"),), calls=CALLS)
    results = [c.ToolResult(call_id=call.call_id, call_kind=call.kind, error="no") for call in CALLS]
    joint = (await past.rewind(first, 0, *results, c.Note(text="lost")))[-1]
    assert [item.get("call_id") for item in joint.new_items] == ["call_0", "call_1", None]


async def test_an_answer_that_nobody_ever_heard_comes_from_the_record(past: Past) -> None:
    first = await past.step(0, None, new=(user("go"),), calls=CALLS)
    ran = ExecutedCommand(exec_id="x", command="echo 1", kind=OutcomeKind.EXIT, exit_code=0, stdout="from the record")
    record = ExecRecord(
        agent_uid="old",
        exec_prefix="b0-s0-c1",
        call_id="call_1",
        commands=(ran,),
        max_output_length=1000,
        created_at=NOW,
    )
    await past.store.put(c.StoreKeys.exec_record("old", "b0-s0-c1"), record.model_dump_json().encode())
    joint = (await past.rewind(first, 0))[-1]
    unknown, known = joint.new_items
    assert (unknown["call_id"], known["call_id"]) == ("call_0", "call_1")
    assert NOT_KNOWN in str(unknown)
    assert "from the record" in str(known)


async def test_a_step_without_calls_needs_no_joint(past: Past) -> None:
    first = await past.step(0, None, new=(user("go"),))
    assert [segment.key for segment in await past.rewind(first, 0)] == [first]


async def test_a_snapshot_that_is_gone_is_told_as_such(past: Past) -> None:
    first = await past.step(0, None, new=(user("go"),))
    files = CheckpointFiles(ref="agents/old/snapshots/manifests/00000003", number=3, taken_at=NOW)
    with pytest.raises(CheckpointGone, match="00000003"):
        await past.fork(first, 0, files=files)
