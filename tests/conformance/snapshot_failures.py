"""What must hold when things break, on real containers: subclass `SnapshotFailureTests` and give it a `kind`."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from activities.adapters.docker_captures import DockerCaptures
from activities.errors import (
    ImageMismatch,
    PathEscape,
    SandboxLost,
    SandboxNotFresh,
    SnapshotConflict,
    SnapshotDamaged,
    SnapshotNotFound,
    StoreUnavailable,
)
from activities.snapshots import manifest as manifests
from activities.snapshots.engine import Engine
from tests.conformance.snapshot_world import UID, FailingStore, SnapshotWorld, progress
from tests.support.boxes import Boxes, assert_same_changes

if TYPE_CHECKING:
    from activities.adapters.local_store import LocalStore


class SnapshotFailureTests(SnapshotWorld):
    """Retries, deaths, damage and hostility."""

    async def test_a_retry_returns_the_same_snapshot(self, engine: Engine, boxes: Boxes, store: LocalStore) -> None:
        box, _ = await self.fresh(engine, boxes)
        box.sh("echo 1 >/a")
        first = await self.take(engine, box, 1)
        for worker in (engine, self.new_engine(boxes, store)):
            again = await self.take(worker, box, 1)
            assert again.ref == first.ref
            assert not again.unchanged
        box.sh("echo 2 >/a")
        late = await self.take(self.new_engine(boxes, store), box, 1)
        assert (late.ref, late.added) == (first.ref, first.added)
        with pytest.raises(SnapshotConflict, match="generation 1"):
            await self.take(self.new_engine(boxes, store), box, 1, generation=2)

    async def test_a_writer_that_dies_before_the_manifest(self, boxes: Boxes, store: LocalStore) -> None:
        failing = FailingStore(store)
        engine = Engine(failing, DockerCaptures(boxes.daemon, kind=self.kind))
        box, fresh = await self.fresh(engine, boxes)
        box.sh("echo 1 >/a")
        first = await self.take(engine, box, 1)
        tree = box.look()
        box.sh("echo 2 >/b")
        failing.refuse = "manifests/"
        with pytest.raises(StoreUnavailable):
            await self.take(engine, box, 2, first.ref)
        assert not box.is_paused
        failing.refuse = ""
        copy, _ = await self.fresh(engine, boxes, 2)
        missing = first.ref[:-1] + "2"
        done = await engine.restore(copy.id, agent_uid=UID, generation=2, ref=missing, progress=progress)
        assert (done.restored, done.number) == (first.ref, 1)
        assert done.reason is not None
        assert_same_changes(fresh, tree, copy.look())
        second = await self.take(engine, box, 2, first.ref)
        assert second.added == 1

    async def test_a_failing_store_leaves_the_container_running(self, boxes: Boxes, store: LocalStore) -> None:
        failing = FailingStore(store)
        engine = Engine(failing, DockerCaptures(boxes.daemon, kind=self.kind))
        box, _ = await self.fresh(engine, boxes)
        box.sh("head -c 80000000 /dev/urandom >/big")
        failing.refuse = "packs/"
        with pytest.raises(StoreUnavailable):
            await self.take(engine, box, 1)
        assert not box.is_paused
        failing.refuse = ""
        assert (await self.take(engine, box, 1)).bytes_total >= 80_000_000

    async def test_a_cancelled_snapshot_leaves_the_container_running(self, boxes: Boxes, store: LocalStore) -> None:
        slow = FailingStore(store)
        engine = Engine(slow, DockerCaptures(boxes.daemon, kind=self.kind))
        box, _ = await self.fresh(engine, boxes)
        box.sh("head -c 150000000 /dev/urandom >/big")
        slow.stall = asyncio.Event()
        running = asyncio.create_task(self.take(engine, box, 1))
        await slow.stall.wait()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert not box.is_paused
        slow.stall = None
        assert (await self.take(engine, box, 1)).bytes_total >= 150_000_000

    async def test_a_container_left_frozen_is_used_and_let_go(self, engine: Engine, boxes: Boxes) -> None:
        box, _ = await self.fresh(engine, boxes)
        box.sh("echo 1 >/a")
        box.daemon.api.pause(box.id)
        taken = await self.take(engine, box, 1)
        assert taken.added == 1
        assert not box.is_paused

    async def test_a_damaged_snapshot_falls_back(self, engine: Engine, boxes: Boxes, store: LocalStore) -> None:
        box, fresh = await self.fresh(engine, boxes)
        box.sh("echo 1 >/a; rm /etc/issue")
        first = await self.take(engine, box, 1)
        tree = box.look()
        known = {info.key async for info in store.list(f"agents/{UID}/snapshots/packs/")}
        box.sh("echo 2 >/b; rm /etc/debian_version")
        second = await self.take(engine, box, 2, first.ref)
        (pack,) = {info.key async for info in store.list(f"agents/{UID}/snapshots/packs/")} - known
        data = bytearray(await store.get(pack))
        data[5] ^= 1
        await store.put(pack, bytes(data))
        copy, _ = await self.fresh(engine, boxes, 2)
        worker = self.new_engine(boxes, store)
        done = await worker.restore(copy.id, agent_uid=UID, generation=2, ref=second.ref, progress=progress)
        assert (done.requested, done.restored, done.number) == (second.ref, first.ref, 1)
        assert done.reason is not None
        assert "pack" in done.reason
        assert_same_changes(fresh, tree, copy.look())
        again = await self.take(worker, copy, 3, first.ref, 2)
        assert (again.unchanged, again.ref) == (True, first.ref)
        await store.delete([pack, first.ref])
        with pytest.raises(SnapshotDamaged):
            await worker.restore(copy.id, agent_uid=UID, generation=2, ref=second.ref, progress=progress)

    async def test_a_restore_that_died_half_way(self, engine: Engine, boxes: Boxes, store: LocalStore) -> None:
        box, fresh = await self.fresh(engine, boxes)
        box.sh("mkdir /w; for i in $(seq 50); do echo $i >/w/$i; done; rm -r /etc/skel; ln /w/1 /w/one; mkfifo /w/p")
        # A directory that hides the image's, with one more in it.
        box.sh("rm -r /etc/alternatives; mkdir -p /etc/alternatives/deep; echo 1 >/etc/alternatives/deep/a")
        box.sh("ln /etc/alternatives/deep/a /etc/alternatives/b; echo 2 >/etc/alternatives/c")
        first = await self.take(engine, box, 1)
        box.sh("rm /w/2")
        second = await self.take(engine, box, 2, first.ref)
        copy, _ = await self.fresh(engine, boxes, 2)
        copy.sh("mkdir /w; echo half >/w/1; mkdir /w/one; rm -r /etc/skel")
        await store.put(f"agents/{UID}/snapshots/containers/{copy.id}/restore", second.ref.encode())
        await engine.restore(copy.id, agent_uid=UID, generation=2, ref=second.ref, progress=progress)
        await engine.restore(copy.id, agent_uid=UID, generation=2, ref=second.ref, progress=progress)
        assert_same_changes(fresh, box.look(), copy.look())
        with pytest.raises(SandboxNotFresh):
            await engine.restore(copy.id, agent_uid=UID, generation=2, ref=first.ref, progress=progress)

    async def test_hostile_manifests_are_refused(self, engine: Engine, boxes: Boxes, store: LocalStore) -> None:
        box, _ = await self.fresh(engine, boxes)
        box.sh("echo 1 >/a; ln -s / /root-link")
        taken = await self.take(engine, box, 1)
        found, _ = manifests.decode(await store.get(taken.ref), taken.ref)
        copy, before = await self.fresh(engine, boxes, 2)
        for path in ("../escape", "/absolute", "a/../../escape", "a//b", "./a", "", "root-link/escape", "x\0b", ".."):
            entry: manifests.EntryDocument = {"p": path, "t": "d", "m": 0o755}
            hostile = found.model_copy(update={"entries": [*found.entries, entry]})
            await store.put(taken.ref, manifests.encode(hostile)[0])
            with pytest.raises(PathEscape):
                await self.new_engine(boxes, store).restore(
                    copy.id, agent_uid=UID, generation=2, ref=taken.ref, progress=progress
                )
        assert copy.look() == before

    async def test_containers_and_references_that_do_not_fit(self, engine: Engine, boxes: Boxes) -> None:
        box, _ = await self.fresh(engine, boxes)
        taken = await self.take(engine, box, 1)
        for ref in ("agents/agent-1/snapshots/manifests/00000000", "nonsense", "../x"):
            with pytest.raises(SnapshotNotFound):
                await engine.restore(box.id, agent_uid=UID, generation=1, ref=ref, progress=progress)
        boxes.daemon.client.containers.get(box.id).commit("hibernaut-test-other", "latest")
        try:
            other = boxes.make(image="hibernaut-test-other:latest")
            await engine.prepare(other.id, agent_uid=UID, generation=2)
            with pytest.raises(ImageMismatch):
                await engine.restore(other.id, agent_uid=UID, generation=2, ref=taken.ref, progress=progress)
            boxes.daemon.api.kill(other.id)
            with pytest.raises(SandboxLost):
                await self.take(engine, other, 2, taken.ref, 2)
            boxes.daemon.api.remove_container(other.id, v=True, force=True)
            with pytest.raises(SandboxLost):
                await self.take(engine, other, 2, taken.ref, 2)
            await engine.forget(other.id)
        finally:
            boxes.daemon.client.images.remove("hibernaut-test-other:latest", force=True)
