"""What a snapshot must keep, on real containers: subclass `SnapshotFidelityTests` and give it a `kind`."""

from __future__ import annotations

import io
import zipfile
from typing import TYPE_CHECKING

import pytest

from tests.conformance.snapshot_world import UID, SnapshotWorld, progress
from tests.support.boxes import Boxes, Tree, assert_same_changes

if TYPE_CHECKING:
    from activities.adapters.local_store import LocalStore
    from activities.snapshots.engine import Engine

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
names = [b"new\nline", b"tab\t", b" space ", b"caf\xe9", b"\xff\xfe", "ünï".encode(), b"-rf", b"\\back", b"*", b"~",
         b"'\"", b".wh.file", b".wh..wh..opq", b"x" * 255, b"%41", b"a=b", b"\x01"]
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


class SnapshotFidelityTests(SnapshotWorld):
    """Whatever an agent does to its files comes back."""

    special_files = SPECIAL_FILES
    shows_holes = True
    """Whether the kernel under test tells which parts of a file take no room."""

    async def test_special_files(self, engine: Engine, boxes: Boxes) -> None:
        box, fresh = await self.fresh(engine, boxes)
        box.sh(self.special_files)
        box.python("import socket; socket.socket(socket.AF_UNIX).bind('/work/socket')")
        taken = await self.take(engine, box, 1)
        assert taken.skipped == 1
        assert taken.capture == self.kind
        assert taken.bytes_new_stored < 100_000
        box.sh("rm /work/socket; touch -d '2020-01-01' /work")
        taken = await self.take(engine, box, 2, taken.ref)
        copy = await self.check_restore(engine, boxes, box, fresh, taken.ref)
        facts = copy.look()
        assert facts[b"/work/link-a"][8] == [b"/work/deep/er/link-c", b"/work/link-a", b"/work/link-b"]
        if self.shows_holes:
            assert facts[b"/work/sparse"][7], "the holes are gone"
            assert facts[b"/work/hole"][7], "the hole is gone"
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
        box.sh(
            "mkdir /w; cd /w; for i in $(seq 300); do echo $i >f$i; done; head -c 3000000 /dev/urandom >big; ln f1 l1"
        )
        first = await self.take(engine, box, 1)
        assert (first.added, first.unchanged) == (302, False)
        assert 3_000_000 < first.bytes_new_stored < 3_400_000
        same = await self.take(engine, box, 2, first.ref)
        assert (same.unchanged, same.ref, same.bytes_new_stored) == (True, first.ref, 0)
        box.sh(
            "cd /w; echo x >>f7; rm f8; printf new >n;printf mid | dd of=big bs=1 seek=1500000 conv=notrunc status=none"
        )
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

    @pytest.mark.slow
    async def test_each_of_many_snapshots_restores(self, engine: Engine, boxes: Boxes) -> None:
        box, fresh = await self.fresh(engine, boxes)
        refs: list[str] = []
        trees: dict[int, Tree] = {}
        for number in range(1, 26):
            box.sh(f"mkdir -p /w; date +%N >/w/f{number}; echo {number} >/w/same; rm -f /w/f{number - 3}")
            taken = await self.take(engine, box, number, refs[-1] if refs else None)
            refs.append(taken.ref)
            if number in (1, 20, 21, 22, 25):
                trees[number - 1] = box.look()
        for at, tree in trees.items():
            copy, _ = await self.fresh(engine, boxes, 2)
            await engine.restore(copy.id, agent_uid=UID, generation=2, ref=refs[at], progress=progress)
            assert_same_changes(fresh, tree, copy.look())

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

    @pytest.mark.slow
    async def test_installed_packages_work_after_a_restore(self, engine: Engine, boxes: Boxes) -> None:
        box, fresh = await self.fresh(engine, boxes)
        wheel = io.BytesIO()
        with zipfile.ZipFile(wheel, "w") as archive:
            archive.writestr("small_thing/__init__.py", "def answer(): return 42\n")
            archive.writestr(
                "small_thing-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: small-thing\nVersion: 1.0\n"
            )
            archive.writestr(
                "small_thing-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
            )
            archive.writestr("small_thing-1.0.dist-info/RECORD", "")
        box.put("/tmp/small_thing-1.0-py3-none-any.whl", wheel.getvalue())
        box.sh(
            "python3 -m venv /opt/venv; /opt/venv/bin/pip install -q --no-index /tmp/small_thing-1.0-py3-none-any.whl;"
            "mkdir -p /tmp/deb/DEBIAN /tmp/deb/usr/bin;"
            "printf '#!/bin/sh\\necho from-deb\\n' >/tmp/deb/usr/bin/fromdeb;"
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
            "selinux=$(ldd /bin/tar | grep -o '/[^ ]*libselinux.so.1');"
            "mv $selinux $selinux.new; ln -s $selinux.new $selinux;"
            "cp -p /bin/tar /tmp/tar; mv /tmp/tar /bin/tar; rm /usr/bin/xargs"
        )
        taken = await self.take(engine, box, 1)
        await self.check_restore(engine, boxes, box, fresh, taken.ref)
