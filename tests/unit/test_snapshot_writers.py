"""Writers that die at any request, and writers of one agent that do not know of each other."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING

import pytest

from activities.errors import SnapshotError
from activities.snapshots.head import Heads
from activities.snapshots.sharing import Bounds
from tests.support.fleet import Fleet

if TYPE_CHECKING:
    from pathlib import Path

EAGER = Bounds(borrow=0, offer=0)
CONTENT = random.Random(3).randbytes(50_000)


async def _prepared(root: Path) -> Fleet:
    """A store in which somebody offers what the next one is about to need."""
    fleet = Fleet(root, EAGER)
    other = await fleet.agent("other").claim()
    other.write(b"shared", CONTENT)
    await other.take()
    return fleet


async def test_a_writer_may_die_at_any_request(tmp_path: Path) -> None:
    request = 0
    while True:
        fleet = await _prepared(tmp_path / str(request))
        agent = await fleet.agent("a").claim()
        agent.write(b"file", b"1")
        first = (await agent.take()).ref
        agent.write(b"file", b"2")
        agent.write(b"shared", CONTENT)
        worker = agent.again()
        fleet.store.fail_at = len(fleet.store.log) + request
        try:
            await agent.take()
        except RuntimeError:
            died = True
        else:
            died = False
        fleet.store.fail_at = None
        copy = fleet.agent("a", "copy 1")
        assert (await copy.restore(first)).restored == first
        assert copy.content()[b"file"] == b"1"
        second = await worker.take(2)
        third = await worker.take(3)
        assert (second.number, third.unchanged, third.ref) == (2, True, second.ref)
        copy = fleet.agent("a", "copy 2")
        assert (await copy.restore(second.ref)).restored == second.ref
        assert copy.content() == agent.content()
        if not died:
            break
        request += 1
    # Offers, the list, packs, the manifest, the head, the marker, the own offer.
    assert request >= 7


async def test_a_fork_may_die_at_any_request(tmp_path: Path) -> None:
    request = 0
    while True:
        fleet = await _prepared(tmp_path / str(request))
        (ref,) = await fleet.keys("manifests/")
        fork = fleet.agent("b")
        fleet.store.fail_at = len(fleet.store.log) + request
        try:
            await fork.engine.fork(ref, agent_uid="b", generation=1)
        except RuntimeError:
            died = True
        else:
            died = False
        fleet.store.fail_at = None
        again = fleet.agent("b")
        info = await again.engine.fork(ref, agent_uid="b", generation=1)
        await again.restore(info.ref)
        assert again.content()[b"shared"] == CONTENT
        if not died:
            break
        request += 1
    assert request >= 6


@pytest.mark.parametrize("seed", range(10))
async def test_of_two_writers_of_one_number_one_wins(tmp_path: Path, seed: int) -> None:
    fleet = Fleet(tmp_path)
    base = await fleet.agent("a").claim()
    base.write(b"file", b"0")
    await base.take()
    # Two containers of the same generation cannot be: that there were two would show here.
    writers = [base.again(), base.again()]
    for number, writer in enumerate(writers):
        writer.files.tree = dict(writer.files.tree)
        writer.write(b"file", b"writer %d" % number)
    random.Random(seed).shuffle(writers)
    results = await asyncio.gather(*(writer.take(2) for writer in writers), return_exceptions=True)
    taken = [info for info in results if not isinstance(info, BaseException)]
    assert taken
    assert len({info.ref for info in taken}) == 1
    assert len(await fleet.keys("manifests/")) == 2
    content = await base.read(taken[0].ref, "file")
    assert content in (b"writer 0", b"writer 1")


@pytest.mark.parametrize("seed", range(10))
async def test_of_two_generations_that_write_at_once_the_later_wins(tmp_path: Path, seed: int) -> None:
    fleet = Fleet(tmp_path)
    old = await fleet.agent("a").claim()
    old.write(b"file", b"0")
    first = await old.take()
    new = fleet.agent("a")
    new.number, new.ref = 2, first.ref
    new.files.tree = dict(old.files.tree)
    old.write(b"file", b"old")
    new.write(b"file", b"new")

    async def replace() -> None:
        for _ in range(random.Random(seed).randrange(4)):
            await asyncio.sleep(0.001)
        await new.claim(2)
        await new.take(generation=2)

    results = await asyncio.gather(old.take(), replace(), return_exceptions=True)
    assert results[1] is None
    if isinstance(results[0], BaseException):
        assert isinstance(results[0], SnapshotError)
    head = (await Heads(fleet.store).view("a")).head
    assert head is not None
    assert (head.generation, head.ref) == (2, new.ref)
    old.number = 8
    with pytest.raises(SnapshotError):
        await old.take()
    assert await new.read(str(new.ref), "file") == b"new"
