"""Compares what snapshots restore with the live container, by programs that know nothing of snapshots."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.conformance.fidelity_trees import HOLES
from tests.conformance.snapshot_world import UID, SnapshotWorld, progress
from tests.support.rsync import differences

if TYPE_CHECKING:
    from activities.adapters.local_store import LocalStore
    from activities.ports.snapshots import SnapshotInfo
    from activities.snapshots.engine import Engine
    from tests.support.boxes import Box, Boxes

DOCKERS_OWN = (
    "/.dockerenv", "/dev", "/proc", "/sys", "/etc/hostname", "/etc/hosts", "/etc/resolv.conf", "/etc/mtab",
    "/run/hibernaut", "/usr/sbin/docker-init",
)  # fmt: skip
"""Made by Docker in every container, and different in each."""

# Docker touches these too while it makes a container: from here on they are the sandbox's, and must be kept.
TOUCH = "touch -d '2022-03-04 05:06:07.891011121' /run /etc /usr/sbin /"


class FidelityWorld(SnapshotWorld):
    """What the suites of comparisons share."""

    async def source(self, engine: Engine, boxes: Boxes, network: str = "none") -> Box:
        """A container to change."""
        box = boxes.make(network=network)
        await engine.prepare(box.id, agent_uid=UID, generation=1)
        box.sh(TOUCH)
        return box

    async def restored(self, boxes: Boxes, store: LocalStore, taken: SnapshotInfo) -> Box:
        """A new container that holds a snapshot, restored by a worker that has never heard of it."""
        engine = self.new_engine(boxes, store)
        box = boxes.make()
        await engine.prepare(box.id, agent_uid=UID, generation=2)
        done = await engine.restore(box.id, agent_uid=UID, generation=2, ref=taken.ref, progress=progress)
        assert (done.restored, done.reason) == (taken.ref, None)
        return box

    def compare(self, source: Box, copy: Box, leave_out: tuple[str, ...] = ()) -> list[str]:
        """A line for everything in which two containers differ."""
        return differences(source.root, copy.root, (*DOCKERS_OWN, *leave_out))

    async def round_trip(
        self, engine: Engine, boxes: Boxes, store: LocalStore, source: Box, parent: SnapshotInfo | None = None
    ) -> tuple[SnapshotInfo, Box]:
        """Take a snapshot, restore it, and see that not one difference is left."""
        number = parent.number + 1 if parent else 1
        taken = await self.take(engine, source, number, parent.ref if parent else None)
        assert taken.capture == self.kind
        copy = await self.restored(boxes, store, taken)
        found = self.compare(source, copy)
        assert not found, "\n".join(found[:50])
        return taken, copy

    async def holes_are_kept(self, engine: Engine, boxes: Boxes, store: LocalStore, source: Box) -> None:
        """Compare where the files of `SPARSE` have data, and how much room they take; then change some."""
        first, copy = await self.round_trip(engine, boxes, store, source)
        assert copy.python(HOLES) == source.python(HOLES)
        source.sh(
            "cd /sparse; printf x | dd of=hollow bs=1 seek=30M conv=notrunc status=none;"
            "truncate -s 60M begins; fallocate --punch-hole --offset 0 --length 65536 zeros; mv ends moved"
        )
        second, copy = await self.round_trip(engine, boxes, store, source, first)
        assert copy.python(HOLES) == source.python(HOLES)
        assert second.bytes_new_stored < 200_000
