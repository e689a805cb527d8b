"""A damaged snapshot of a branch is followed by one of the same branch, never by the end of the one that was left."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
from temporalio.testing import ActivityEnvironment

from activities.errors import SnapshotDamaged, SnapshotFenced
from activities.forking import BranchActivities
from activities.ports.snapshots import BranchStart
from activities.snapshots.head import Heads
from activities.transcript import Segment, Transcript
from hibernaut import contracts as c
from hibernaut.models import Checkpoint, CheckpointFiles, Usage
from tests.support.fleet import Fleet, Member

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
async def agent(tmp_path: Path) -> tuple[Member, list[str]]:
    """Three snapshots, and two of a branch that begins with the first."""
    member = await Fleet(tmp_path).agent("a").claim()
    refs: list[str] = []
    for number in range(1, 6):
        if number == 4:
            member.ref = refs[0]
        member.write(b"file", b"%d" % number)
        info = await member.take(number)
        assert info.ref is not None
        refs.append(info.ref)
    return member, refs


@pytest.mark.parametrize(
    ("broken", "wanted", "restored"),
    [((5,), 5, 4), ((4, 5), 5, 1), ((4,), 4, 1), ((4,), 5, 1), ((3,), 3, 2)],
)
async def test_the_fallback_stays_on_the_branch(
    agent: tuple[Member, list[str]], tmp_path: Path, broken: tuple[int, ...], wanted: int, restored: int
) -> None:
    member, refs = agent
    for number in broken:
        (tmp_path / refs[number - 1]).write_bytes(b"junk")
    branch = BranchStart(4, refs[0]) if wanted > 3 else BranchStart()
    info = await member.again().restore(refs[wanted - 1], branch=branch)
    assert info.number == restored


async def test_a_branch_that_began_with_the_image_has_nothing_to_fall_back_to(
    agent: tuple[Member, list[str]], tmp_path: Path
) -> None:
    member, refs = agent
    (tmp_path / refs[3]).write_bytes(b"junk")
    with pytest.raises(SnapshotDamaged):
        await member.again().restore(refs[3], branch=BranchStart(4, None))


async def test_a_fork_does_not_fall_back_to_earlier_steps_of_the_other(tmp_path: Path) -> None:
    fleet = Fleet(tmp_path)
    source = await fleet.agent("a").claim()
    source.write(b"file", b"1")
    await source.take()
    packs = set(await fleet.keys("/packs/"))
    source.write(b"file", b"2")
    second = await source.take()
    assert second.ref is not None
    fork = fleet.agent("b")
    info = await fork.engine.fork(second.ref, agent_uid="b", generation=1)
    (late,) = set(await fleet.keys("/packs/")) - packs
    (tmp_path / late).write_bytes(b"junk")
    with pytest.raises(SnapshotDamaged):
        await fork.again().restore(info.ref)
    assert (await source.again().restore(second.ref)).number == 1, "its own is another matter"


async def test_a_late_snapshot_of_a_lost_host_does_not_undo_a_rewind(tmp_path: Path) -> None:
    fleet = Fleet(tmp_path)
    lost = await fleet.agent("a").claim()
    refs: list[str] = []
    for number in (1, 2):
        lost.write(b"file", b"%d" % number)
        refs.append((await lost.take()).ref)
    transcript = Transcript(fleet.store)
    segment = Segment(
        agent_uid="a",
        branch=0,
        step=0,
        ordinal=0,
        previous=None,
        request_digest="",
        new_items=(),
        reply_items=(),
        text="",
        refusal=False,
        tool_calls=(),
        usage=Usage(),
        provider="p",
        model="m",
        response_id=None,
        created_at=NOW,
        duration_ms=0,
    )
    await transcript.keep(segment)
    files = CheckpointFiles(ref=refs[0], number=1, taken_at=NOW)
    point = Checkpoint(branch=0, step=0, at=NOW, segment_ref=segment.key, snapshot=files)
    request = c.OpenBranchRequest(agent_uid="a", generation=2, branch=1, found=c.FoundCheckpoint(checkpoint=point))
    branches = BranchActivities(transcript, fleet.agent("a").engine)
    for _ in range(2):
        await ActivityEnvironment().run(branches.rewind, request)
    lost.write(b"file", b"late")
    with pytest.raises(SnapshotFenced):
        await lost.take()
    head = (await Heads(fleet.store).view("a")).head
    assert head is not None
    assert (head.generation, head.current, head.ref) == (2, refs[0], refs[1])
