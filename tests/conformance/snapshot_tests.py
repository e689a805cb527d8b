"""What every way to capture must do on real containers: subclass `SnapshotEngineTests` and give it a `kind`."""

from __future__ import annotations

import asyncio
import io
import zipfile
from typing import TYPE_CHECKING, Literal

import pytest

from activities.adapters.docker_captures import DockerCaptures
from activities.adapters.local_store import LocalStore
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
from tests.support.boxes import Box, Boxes, Tree, assert_same_changes

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from activities.ports.snapshots import SnapshotInfo

UID = "agent-1"

SPECIAL_FILES = r"""
mkdir -p /work/deep/er /work/empty-directory; cd /work
printf 'plain' >plain; : >empty
printf 'private' >private; chmod 0600 private; chown 1234:4321 private
printf 'set-id' >setuid; chown 10:10 setuid; chmod 6755 setuid
ln -s /etc/passwd absolute; ln -s ../../etc relative; ln -s nowhere dangling; ln -sf /proc/self/exe outside
mkfifo pipe; chmod 0640 pipe
mknod null c 1 3; mknod disk b 7 200
printf 'linked' >link-a; ln link-a link-b; ln link-a deep/er/link-c; ln -s x sym-a; ln sym-a sym-b; ln pipe pipe-b
truncate -s 50M sparse; printf 'middle' | dd of=sparse bs=1 seek=20000000 conv=notrunc status=none
truncate -s 3M hole; printf 'start' >tail-hole; truncate -s 1M tail-hole
touch -d '1960-02-03 04:05:06.123456789' old; touch -d '2100-01-01 00:00:00.000000001' future
touch -hd '2001-02-03 04:05:06.7' relative
mkdir sticky; chmod 1777 sticky; mkdir locked; printf x >locked/in; chmod 0000 locked
touch -d '2010-10-10 10:10:10.123456789' deep deep/er
touch -d '1969-12-31 23:59:59.75 UTC' empty-directory
"""

STRANGE_NAMES = r"""
import os
os.makedirs(b"/work/names"); os.chdir(b"/work/names")
names = [b"new\nline", b"tab\t", b" space ", b"caf\xe9", b"\xff\xfe", "ünï".encode(), b"-rf", b"\\back", b"*", b"~", b"'\"",
         b".wh.file", b".wh..wh..opq", b"x" * 255, b"%41", b"a=b", b"\x01"]
for number, name in enumerate(names):
    open(name, "wb").write(b"%d" % number)
os.mkdir(b"dir\n\xe9"); open(b"dir\n\xe9/in\xff", "wb").close()
os.symlink(b"\xff\n target", b"to\xff")
long = b"/".join([b"d" * 200] * 15); os.makedirs(long); open(long + b"/" + b"f" * 200, "wb").write(b"far")
"""

XATTRS = r"""
import os, struct
open("/work/tagged", "w").write("x")
os.setxattr("/work/tagged", "user.plain", b"value"); os.setxattr("/work/tagged", "user.bin", bytes(range(256)))
os.setxattr("/work/tagged", "user.empty", b""); os.setxattr("/work/tagged", "user.a=b%c", b"1=2\n3")
os.mkdir("/work/tagged-dir"); os.setxattr("/work/tagged-dir", "user.dir", b"d")
open("/work/ping", "w").write("x"); os.chmod("/work/ping", 0o755)
os.setxattr("/work/ping", "security.capability", struct.pack("<IIIII", 0x02000001, 1 << 13, 0, 0, 0))
acl = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *e) for e in [
    (1, 6, 0xFFFFFFFF), (2, 4, 1234), (4, 4, 0xFFFFFFFF), (16, 4, 0xFFFFFFFF), (32, 0, 0xFFFFFFFF)])
open("/work/acl", "w").close(); os.setxattr("/work/acl", "system.posix_acl_access", acl)
"""


def _progress(text: str) -> None:
    assert isinstance(text, str)


class SnapshotEngineTests:
    """The conformance suite of capture and restore, on real Docker."""

    kind: Literal["host", "api"]

    @pytest.fixture
    def boxes(self) -> Iterator[Boxes]:
        made = Boxes()
        try:
            yield made
        finally:
            made.close()

    @pytest.fixture
    def store(self, tmp_path: Path) -> LocalStore:
        return LocalStore(tmp_path / "store")

    @pytest.fixture
    def engine(self, boxes: Boxes, store: LocalStore) -> Engine:
        return self.new_engine(boxes, store)

    def new_engine(self, boxes: Boxes, store: LocalStore) -> Engine:
        """A worker that knows nothing but the store."""
        return Engine(store, DockerCaptures(boxes.daemon, kind=self.kind))

    async def fresh(self, engine: Engine, boxes: Boxes, generation: int = 1) -> tuple[Box, Tree]:
        box = boxes.make()
        await engine.prepare(box.id, agent_uid=UID, generation=generation)
        return box, box.look()

    async def take(
        self, engine: Engine, box: Box, number: int, parent: str | None = None, generation: int = 1
    ) -> SnapshotInfo:
        return await engine.take(
            box.id, agent_uid=UID, generation=generation, number=number, parent=parent, progress=_progress
        )

    async def check_restore(self, engine: Engine, boxes: Boxes, source: Box, fresh: Tree, ref: str) -> Box:
        """Restore into a new container, look at both from inside, and see that nothing is left to snapshot."""
        copy, _ = await self.fresh(engine, boxes, 2)
        done = await engine.restore(copy.id, agent_uid=UID, generation=2, ref=ref, progress=_progress)
        assert (done.requested, done.restored, done.reason) == (ref, ref, None)
        assert_same_changes(fresh, source.look(), copy.look())
        again = await self.take(engine, copy, 900, ref, 2)
        assert (again.unchanged, again.ref) == (True, ref)
        assert not copy.is_paused
        return copy

    async def test_special_files(self, engine: Engine, boxes: Boxes) -> None:
        box, fresh = await self.fresh(engine, boxes)
        box.sh(SPECIAL_FILES)
        box.python("import socket; socket.socket(socket.AF_UNIX).bind('/work/socket')")
        taken = await self.take(engine, box, 1)
        assert taken.skipped == 1
        assert taken.capture == self.kind
        assert taken.bytes_new_stored < 100_000
        box.sh("rm /work/socket; touch -d '2020-01-01' /work")
        taken = await self.take(engine, box, 2, taken.ref)
        copy = await self.check_restore(engine, boxes, box, fresh, taken.ref)
        facts = copy.look()
        assert facts[b"/work/sparse"][7], "the holes are gone"
        assert facts[b"/work/hole"][7], "the hole is gone"
        assert facts[b"/work/link-a"][8] == [b"/work/deep/er/link-c", b"/work/link-a", b"/work/link-b"]
        assert int(copy.sh("du -k /work/sparse").split()[0]) < 1000

    async def test_strange_names(self, engine: Engine, boxes: Boxes) -> None:
        box, fresh = await self.fresh(engine, boxes)
        box.python(STRANGE_NAMES)
        taken = await self.take(engine, box, 1)
        await self.check_restore(engine, boxes, box, fresh, taken.ref)

    async def test_extended_attributes(self, engine: Engine, boxes: Boxes) -> None:
        box, fresh = await self.fresh(engine, boxes)
        box.sh("mkdir /work")
        box.python(XATTRS)
        taken = await self.take(engine, box, 1)
        copy = await self.check_restore(engine, boxes, box, fresh, taken.ref)
        assert set(copy.look()[b"/work/ping"][6]) == {"security.capability"}
        assert set(copy.look()[b"/work/acl"][6]) == {"system.posix_acl_access"}
        box.python("import os; os.removexattr('/work/tagged', 'user.plain')")
        taken = await self.take(engine, box, 2, taken.ref)
        await self.check_restore(engine, boxes, box, fresh, taken.ref)

    async def test_changes_to_what_the_image_has(self, engine: Engine, boxes: Boxes) -> None:
        box, fresh = await self.fresh(engine, boxes)
        box.sh(
            "rm /etc/issue; rm -r /usr/share/doc; chmod 0700 /etc/hosts.allow 2>/dev/null || chmod 0600 /etc/shells;"
            "rm -r /etc/skel; printf file >/etc/skel;"  # directory to file
            "rm /etc/debian_version; mkdir /etc/debian_version; printf in >/etc/debian_version/in;"  # file to directory
            "rm -r /etc/cron.d 2>/dev/null || rm -r /etc/terminfo; ln -s /tmp /etc/terminfo-link;"
            "rm -r /etc/alternatives; mkdir /etc/alternatives; printf new >/etc/alternatives/only;"  # opaque
            "rm /etc/os-release; printf 'was a link' >/etc/os-release;"  # link to file
            "printf moved >/tmp/new-group; mv /tmp/new-group /etc/group;"  # rename over
            "ln /etc/profile /etc/profile-linked; ln /usr/bin/env /opt/env;"  # hard links to the image's files
            "mv /usr/share/perl5 /opt/perl5 2>/dev/null || mv /usr/share/bug /opt/bug;"
            "printf more >>/etc/services; rm -r /var/log; ln -s /opt /var/log"
        )
        taken = await self.take(engine, box, 1)
        assert taken.deleted > 0
        assert taken.changed > 0
        await self.check_restore(engine, boxes, box, fresh, taken.ref)

    async def test_a_chain_of_changes(self, engine: Engine, boxes: Boxes, store: LocalStore) -> None:
        box, fresh = await self.fresh(engine, boxes)
        box.sh("mkdir /w; cd /w; for i in $(seq 300); do echo $i >f$i; done; head -c 3000000 /dev/urandom >big; ln f1 l1")
        first = await self.take(engine, box, 1)
        assert (first.added, first.unchanged) == (302, False)
        assert 3_000_000 < first.bytes_new_stored < 3_400_000
        same = await self.take(engine, box, 2, first.ref)
        assert (same.unchanged, same.ref, same.bytes_new_stored) == (True, first.ref, 0)
        box.sh("cd /w; echo x >>f7; rm f8; printf new >n; printf mid | dd of=big bs=1 seek=1500000 conv=notrunc status=none")
        second = await self.take(engine, box, 3, same.ref)
        assert (second.added, second.changed, second.deleted) == (1, 2, 1)
        assert second.bytes_new_stored < 1_100_000, "more than a few chunks of the big file were stored again"
        box.sh("cd /w; rm l1; rm f9; mkdir f9; mv f10 f10-moved; ln -sf f11 f12; ln f13 l13; ln f14 l14; rm f14")
        third = await self.take(engine, box, 4, second.ref)
        box.sh("cd /w; chmod 600 f20; chown 5:5 f21; touch -d 2001-01-01 f22; rm -r f9")
        fourth = await self.take(engine, box, 5, third.ref)
        await self.check_restore(engine, boxes, box, fresh, fourth.ref)
        assert [info.key async for info in store.list(f"agents/{UID}/snapshots/manifests/")] == [
            first.ref, second.ref, third.ref, fourth.ref,
        ]  # fmt: skip

    async def test_each_of_many_snapshots_restores(self, engine: Engine, boxes: Boxes) -> None:
        box, fresh = await self.fresh(engine, boxes)
        refs: list[str] = []
        trees: list[Tree] = []
        for number in range(1, 26):
            box.sh(f"mkdir -p /w; date +%N >/w/f{number}; echo {number} >/w/same; rm -f /w/f{number - 3}")
            taken = await self.take(engine, box, number, refs[-1] if refs else None)
            refs.append(taken.ref)
            trees.append(box.look())
        for at in (0, 12, 19, 20, 21, 24):
            copy, _ = await self.fresh(engine, boxes, 2)
            await engine.restore(copy.id, agent_uid=UID, generation=2, ref=refs[at], progress=_progress)
            assert_same_changes(fresh, trees[at], copy.look())

    async def test_another_worker_goes_on(self, engine: Engine, boxes: Boxes, store: LocalStore) -> None:
        box, fresh = await self.fresh(engine, boxes)
        box.sh("mkdir /w; echo 1 >/w/a; ln /w/a /w/b; head -c 600000 /dev/urandom >/w/big; rm /etc/issue")
        first = await self.take(engine, box, 1)
        other = self.new_engine(boxes, store)
        same = await self.take(other, box, 2, first.ref)
        assert (same.unchanged, same.ref) == (True, first.ref)
        box.sh("echo 2 >>/w/a")
        second = await self.take(self.new_engine(boxes, store), box, 3, first.ref)
        assert (second.added, second.changed, second.deleted) == (0, 2, 0)
        assert second.bytes_new_stored < 5000
        await self.check_restore(self.new_engine(boxes, store), boxes, box, fresh, second.ref)

    async def test_a_change_that_hides_behind_its_old_time(self, engine: Engine, boxes: Boxes) -> None:
        box, fresh = await self.fresh(engine, boxes)
        box.sh("mkdir /w; printf one >/w/a; touch -d 2020-01-01 /w/a")
        first = await self.take(engine, box, 1)
        box.sh("printf two >/w/a; touch -d 2020-01-01 /w/a")
        second = await self.take(engine, box, 2, first.ref)
        assert second.changed == 1
        box.python(
            "import mmap, os\n"
            "with open('/w/a', 'r+b') as f:\n"
            "  m = mmap.mmap(f.fileno(), 0); m[0] = 84; m.flush(); m.close()"
        )
        third = await self.take(engine, box, 3, second.ref)
        assert third.changed == 1
        await self.check_restore(engine, boxes, box, fresh, third.ref)

    async def test_installed_packages_work_after_a_restore(self, engine: Engine, boxes: Boxes) -> None:
        box, fresh = await self.fresh(engine, boxes)
        wheel = io.BytesIO()
        with zipfile.ZipFile(wheel, "w") as archive:
            archive.writestr("small_thing/__init__.py", "def answer(): return 42\n")
            archive.writestr("small_thing-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: small-thing\nVersion: 1.0\n")
            archive.writestr("small_thing-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
            archive.writestr("small_thing-1.0.dist-info/RECORD", "")
        box.put("/tmp/small_thing-1.0-py3-none-any.whl", wheel.getvalue())
        box.sh(
            "python3 -m venv /opt/venv; /opt/venv/bin/pip install -q --no-index /tmp/small_thing-1.0-py3-none-any.whl;"
            "mkdir -p /tmp/deb/DEBIAN /tmp/deb/usr/bin; printf '#!/bin/sh\\necho from-deb\\n' >/tmp/deb/usr/bin/fromdeb;"
            "chmod 755 /tmp/deb/usr/bin/fromdeb; printf 'Package: fromdeb\\nVersion: 1\\nArchitecture: all\\n"
            "Maintainer: t <t@example.org>\\nDescription: t\\n' >/tmp/deb/DEBIAN/control;"
            "dpkg-deb -b /tmp/deb /tmp/fromdeb.deb >/dev/null; dpkg -i /tmp/fromdeb.deb >/dev/null"
        )
        taken = await self.take(engine, box, 1)
        copy = await self.check_restore(engine, boxes, box, fresh, taken.ref)
        assert copy.sh("/opt/venv/bin/python -c 'import small_thing; print(small_thing.answer())'") == "42\n"
        assert copy.sh("fromdeb; dpkg -s fromdeb | grep -c 'ok installed'") == "from-deb\n1\n"

    async def test_the_tools_themselves_are_changed(self, engine: Engine, boxes: Boxes) -> None:
        box, fresh = await self.fresh(engine, boxes)
        box.sh(
            "lib=$(ldd /bin/tar | grep -o '/[^ ]*libc.so.6'); cp -p $lib /tmp/libc; mv /tmp/libc $lib;"
            "selinux=$(ldd /bin/tar | grep -o '/[^ ]*libselinux.so.1'); mv $selinux $selinux.new; ln -s $selinux.new $selinux;"
            "cp -p /bin/tar /tmp/tar; mv /tmp/tar /bin/tar; rm /usr/bin/xargs"
        )
        taken = await self.take(engine, box, 1)
        await self.check_restore(engine, boxes, box, fresh, taken.ref)

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
        failing = _FailingStore(store)
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
        done = await engine.restore(copy.id, agent_uid=UID, generation=2, ref=missing, progress=_progress)
        assert (done.restored, done.number) == (first.ref, 1)
        assert done.reason is not None
        assert_same_changes(fresh, tree, copy.look())
        second = await self.take(engine, box, 2, first.ref)
        assert second.added == 1

    async def test_a_failing_store_leaves_the_container_running(self, boxes: Boxes, store: LocalStore) -> None:
        failing = _FailingStore(store)
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
        slow = _FailingStore(store)
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
        data[-3] ^= 1
        await store.put(pack, bytes(data))
        copy, _ = await self.fresh(engine, boxes, 2)
        worker = self.new_engine(boxes, store)
        done = await worker.restore(copy.id, agent_uid=UID, generation=2, ref=second.ref, progress=_progress)
        assert (done.requested, done.restored, done.number) == (second.ref, first.ref, 1)
        assert done.reason is not None
        assert "pack" in done.reason
        assert_same_changes(fresh, tree, copy.look())
        again = await self.take(worker, copy, 3, first.ref, 2)
        assert (again.unchanged, again.ref) == (True, first.ref)
        await store.delete([pack, first.ref])
        with pytest.raises(SnapshotDamaged):
            await worker.restore(copy.id, agent_uid=UID, generation=2, ref=second.ref, progress=_progress)

    async def test_a_restore_that_died_half_way(self, engine: Engine, boxes: Boxes, store: LocalStore) -> None:
        box, fresh = await self.fresh(engine, boxes)
        box.sh("mkdir /w; for i in $(seq 50); do echo $i >/w/$i; done; rm -r /etc/skel; ln /w/1 /w/one; mkfifo /w/p")
        first = await self.take(engine, box, 1)
        box.sh("rm /w/2")
        second = await self.take(engine, box, 2, first.ref)
        copy, _ = await self.fresh(engine, boxes, 2)
        copy.sh("mkdir /w; echo half >/w/1; mkdir /w/one; rm -r /etc/skel")
        await store.put(f"agents/{UID}/snapshots/containers/{copy.id}/restore", second.ref.encode())
        await engine.restore(copy.id, agent_uid=UID, generation=2, ref=second.ref, progress=_progress)
        await engine.restore(copy.id, agent_uid=UID, generation=2, ref=second.ref, progress=_progress)
        assert_same_changes(fresh, box.look(), copy.look())
        with pytest.raises(SandboxNotFresh):
            await engine.restore(copy.id, agent_uid=UID, generation=2, ref=first.ref, progress=_progress)

    @pytest.mark.parametrize(
        "path", ["../escape", "/absolute", "a/../../escape", "a//b", "./a", "", "proc-link/escape", "a\0b"]
    )
    async def test_a_hostile_manifest_is_refused(
        self, engine: Engine, boxes: Boxes, store: LocalStore, path: str
    ) -> None:
        box, _ = await self.fresh(engine, boxes)
        box.sh("echo 1 >/a; ln -s / /proc-link")
        taken = await self.take(engine, box, 1)
        found, _ = manifests.decode(await store.get(taken.ref), taken.ref)
        hostile = found.model_copy(update={"entries": [*found.entries, {"p": path, "t": "d", "m": 0o755}]})
        await store.put(taken.ref, manifests.encode(hostile)[0])
        copy, before = await self.fresh(engine, boxes, 2)
        with pytest.raises(PathEscape):
            await self.new_engine(boxes, store).restore(
                copy.id, agent_uid=UID, generation=2, ref=taken.ref, progress=_progress
            )
        assert copy.look() == before

    async def test_containers_and_references_that_do_not_fit(self, engine: Engine, boxes: Boxes) -> None:
        box, _ = await self.fresh(engine, boxes)
        taken = await self.take(engine, box, 1)
        for ref in ("agents/agent-1/snapshots/manifests/00000000", "nonsense", "../x"):
            with pytest.raises(SnapshotNotFound):
                await engine.restore(box.id, agent_uid=UID, generation=1, ref=ref, progress=_progress)
        boxes.daemon.client.containers.get(box.id).commit("hibernaut-test-other", "latest")
        try:
            other = boxes.make(image="hibernaut-test-other:latest")
            await engine.prepare(other.id, agent_uid=UID, generation=2)
            with pytest.raises(ImageMismatch):
                await engine.restore(other.id, agent_uid=UID, generation=2, ref=taken.ref, progress=_progress)
            boxes.daemon.api.kill(other.id)
            with pytest.raises(SandboxLost):
                await self.take(engine, other, 2, taken.ref, 2)
            boxes.daemon.api.remove_container(other.id, v=True, force=True)
            with pytest.raises(SandboxLost):
                await self.take(engine, other, 2, taken.ref, 2)
            await engine.forget(other.id)
        finally:
            boxes.daemon.client.images.remove("hibernaut-test-other:latest", force=True)


class _FailingStore(LocalStore):
    """A folder that refuses or holds back some writes."""

    def __init__(self, inner: LocalStore) -> None:
        super().__init__(inner._root)
        self.refuse = ""
        self.stall: asyncio.Event | None = None

    async def put(self, key: str, data: bytes, *, if_none_match: bool = False) -> None:
        if self.refuse and self.refuse in key:
            msg = "The store is away."
            raise StoreUnavailable(msg)
        if self.stall is not None:
            self.stall.set()
            await asyncio.Event().wait()
        await super().put(key, data, if_none_match=if_none_match)
