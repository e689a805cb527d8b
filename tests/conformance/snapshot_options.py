"""What a spec may say of snapshots, on real containers: subclass `SnapshotOptionsTests` and give it a `kind`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from activities.adapters.docker_captures import DockerCaptures
from activities.errors import SnapshotSealed, SnapshotTooLarge
from activities.ports.snapshots import TakeOptions
from activities.snapshots.chain import ChainReader
from activities.snapshots.engine import Engine
from activities.snapshots.sealing import Key, KeyRing, key_of
from tests.conformance.snapshot_world import UID, SnapshotWorld, progress

if TYPE_CHECKING:
    from activities.adapters.local_store import LocalStore
    from activities.ports.snapshots import SnapshotInfo
    from activities.snapshots.entries import Entry
    from tests.support.boxes import Box, Boxes

MEGABYTE = 1 << 20
EXCLUDE = TakeOptions(
    exclude=("/tmp", "/home/*/.cache", "/srv/**/node_modules", "/**/*.pyc", "/usr/share/doc", "/etc/issue", "/etc/skel")
)
FILL = """
mkdir -p /home/agent/.cache/pip /srv/a/b/node_modules/p /srv/plain /work
printf keep >/home/agent/keep; printf no >/home/agent/.cache/pip/no; printf no >/tmp/no; printf no >/srv/plain/no.pyc
printf no >/srv/a/b/node_modules/p/no; printf keep >/srv/a/b/keep; ln -s /nowhere /srv/plain/link.pyc
chmod 0750 /home/agent/.cache; chown 12:34 /home/agent/.cache
printf shared >/tmp/first; ln /tmp/first /work/second; ln /work/second /work/third
printf pair >/home/agent/.cache/a; ln /home/agent/.cache/a /work/b
rm -r /usr/share/doc; mkdir /usr/share/doc; printf no >/usr/share/doc/no
rm /etc/issue; rm -r /etc/skel
"""
KEPT = (b"home/agent/keep", b"srv/a/b/keep", b"work/second", b"work/third", b"work/b")
EMPTY = (b"tmp", b"home/agent/.cache", b"srv/a/b/node_modules", b"usr/share/doc")


class SnapshotOptionsTests(SnapshotWorld):
    """Exclusions, limits, compression and sealing do what they say."""

    async def taken(
        self, engine: Engine, box: Box, number: int, parent: str | None, options: TakeOptions, generation: int = 1
    ) -> SnapshotInfo:
        return await engine.take(
            box.id,
            agent_uid=UID,
            generation=generation,
            number=number,
            parent=parent,
            progress=progress,
            options=options,
        )

    async def entries(self, store: LocalStore, ref: str) -> dict[bytes, Entry]:
        return dict((await ChainReader(store).state(ref)).entries)

    async def test_what_is_left_out_is_as_in_the_image(self, engine: Engine, boxes: Boxes, store: LocalStore) -> None:
        box, _ = await self.fresh(engine, boxes)
        listed = box.sh("ls /usr/share/doc")
        box.sh(FILL)
        first = await self.taken(engine, box, 1, None, EXCLUDE)
        entries = await self.entries(store, first.ref)
        assert entries.keys() >= {*KEPT, *EMPTY}
        for path in entries:
            assert not any(path.startswith(hidden + b"/") for hidden in EMPTY), path
            assert not path.endswith(b".pyc")
            assert path not in (b"etc/issue", b"etc/skel")
        assert not any(entries[path].opaque for path in EMPTY)
        cache = entries[b"home/agent/.cache"]
        assert (cache.mode, cache.uid, cache.gid) == (0o750, 12, 34)
        # The first name that is kept bears what a group of hard links holds.
        assert entries[b"work/third"].leader == b"work/second"
        assert not entries[b"work/second"].leader
        assert not entries[b"work/b"].leader

        copy, _ = await self.fresh(engine, boxes, 2)
        await engine.restore(copy.id, agent_uid=UID, generation=2, ref=first.ref, progress=progress)
        assert (
            copy.sh("cat /home/agent/keep /srv/a/b/keep /work/second /work/third /work/b") == "keepkeepsharedsharedpair"
        )
        assert copy.sh("ls -A /tmp /home/agent/.cache /srv/a/b/node_modules /srv/plain | grep -v :; true").split() == []
        assert copy.sh("ls /usr/share/doc") == listed
        assert copy.sh("test -s /etc/issue && ls -A /etc/skel | wc -l").split() != ["0"]
        assert copy.sh("stat -c '%a %u %g' /home/agent/.cache").strip() == "750 12 34"
        again = await self.taken(engine, copy, 900, first.ref, EXCLUDE, generation=2)
        assert again.unchanged

    async def test_what_is_left_out_may_change(self, engine: Engine, boxes: Boxes, store: LocalStore) -> None:
        box, _ = await self.fresh(engine, boxes)
        box.sh(FILL)
        first = await self.taken(engine, box, 1, None, EXCLUDE)
        box.sh("printf more >/tmp/more; rm /tmp/no; mkdir /tmp/d; rm -r /home/agent/.cache/pip; touch /srv/x.pyc")
        # The directory that x.pyc was made in has another time, and that is all.
        second = await self.taken(engine, box, 2, first.ref, EXCLUDE)
        manifest, _ = await ChainReader(store).manifest(second.ref)
        assert [entry["p"] for entry in manifest.entries] == ["srv"]
        box.sh("printf more >/tmp/even-more; rm -r /tmp/d")
        for number, worker in ((3, engine), (4, self.new_engine(boxes, store))):
            assert (await self.taken(worker, box, number, second.ref, EXCLUDE)).unchanged
        box.sh("chmod 0700 /tmp")
        third = await self.taken(engine, box, 5, second.ref, EXCLUDE)
        assert not third.unchanged
        assert (await self.entries(store, third.ref))[b"tmp"].mode == 0o700

    async def test_other_patterns_than_before(self, engine: Engine, boxes: Boxes, store: LocalStore) -> None:
        box, _ = await self.fresh(engine, boxes)
        box.sh(FILL + "for n in $(seq 300); do : >/work/f$n; done")
        first = await self.taken(engine, box, 1, None, TakeOptions())
        assert b"tmp/first" in await self.entries(store, first.ref)
        second = await self.taken(engine, box, 2, first.ref, EXCLUDE)
        manifest, _ = await ChainReader(store).manifest(second.ref)
        assert manifest.kind == "delta"
        assert {"tmp/first", "tmp/no", "home/agent/.cache/pip/no"} <= set(manifest.removed)
        entries = await self.entries(store, second.ref)
        assert not entries[b"work/second"].leader
        assert entries[b"work/third"].leader == b"work/second"
        third = await self.taken(engine, box, 3, second.ref, TakeOptions())
        assert (await self.entries(store, third.ref)).keys() == (await self.entries(store, first.ref)).keys()
        copy, _ = await self.fresh(engine, boxes, 2)
        await engine.restore(copy.id, agent_uid=UID, generation=2, ref=third.ref, progress=progress)
        assert copy.sh("cat /tmp/first /usr/share/doc/no; ls /usr/share/doc | wc -l").split() == ["sharedno1"]

    async def test_a_limit(self, engine: Engine, boxes: Boxes, store: LocalStore) -> None:
        box, _ = await self.fresh(engine, boxes)
        options = TakeOptions(max_bytes=3 * MEGABYTE)
        box.sh(
            "mkdir -p /work/data; head -c 1M /dev/urandom >/work/data/a; ln /work/data/a /work/data/b;"
            "truncate -s 5G /work/sparse; head -c 1M /dev/urandom >>/work/sparse"
        )
        first = await self.taken(engine, box, 1, None, options)
        before = [info.key async for info in store.list("")]
        box.sh("mkdir -p /srv/deep/er; head -c 2M /dev/urandom >/srv/deep/er/c")
        for worker in (engine, self.new_engine(boxes, store)):
            with pytest.raises(SnapshotTooLarge) as caught:
                await self.taken(worker, box, 2, first.ref, options)
            text = str(caught.value)
            assert "4.2 MB" in text
            assert "/srv/deep/er 2.1 MB" in text
        assert [info.key async for info in store.list("")] == before
        assert not box.is_paused
        box.sh("rm /srv/deep/er/c")
        assert not (await self.taken(engine, box, 2, first.ref, options)).unchanged

    async def test_compression(self, engine: Engine, boxes: Boxes) -> None:
        box, _ = await self.fresh(engine, boxes)
        box.sh("mkdir /work; seq 300000 >/work/numbers")
        sizes = [
            (await self.taken(self.new_engine(boxes, engine._store), box, number, None, options)).bytes_new_stored  # pyright: ignore[reportArgumentType]  # as the fixture made it
            for number, options in ((1, TakeOptions(compression=19)), (2, TakeOptions(compression=1)))
        ]
        assert sizes[0] < sizes[1] / 2

    async def test_sealed(self, boxes: Boxes, store: LocalStore) -> None:
        ring = KeyRing([Key("a", bytes(range(32)))])
        captures = DockerCaptures(boxes.daemon, kind=self.kind)
        engine = Engine(store, captures, sealer=ring)
        box, fresh = await self.fresh(engine, boxes)
        box.sh("mkdir /work; printf 'plain marker' >/work/telling-name; seq 100000 >/work/numbers")
        ref = (await self.take(engine, box, 1)).ref
        for key in [info.key async for info in store.list("")]:
            data = await store.get(key)
            assert b"plain marker" not in data
            assert b"telling-name" not in data
            assert key_of(data) == ring.key_id or key.endswith("head.json")
        with pytest.raises(SnapshotSealed):
            await self.take(self.new_engine(boxes, store), box, 2, ref)
        # A worker that is new and has the key goes on where the first one was.
        again = await self.take(Engine(store, captures, sealer=ring), box, 3, ref)
        assert again.unchanged
        await self.check_restore(Engine(store, captures, sealer=ring), boxes, box, fresh, ref)
