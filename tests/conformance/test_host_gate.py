"""The host's proof that nothing ran: what it spares, and everything that must not slip through it."""

from __future__ import annotations

import asyncio
import io
import os
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from activities.adapters import host_capture
from activities.adapters.cpu_gate import CpuGate
from activities.adapters.docker_captures import DockerCaptures
from activities.adapters.local_store import LocalStore
from activities.ports.snapshots import SnapshotInfo, TakeOptions
from activities.snapshots.engine import Engine
from tests.conformance.snapshot_world import UID, SnapshotWorld, progress

if TYPE_CHECKING:
    from tests.support.boxes import Box, Boxes

_MAPPED = """
import mmap, os, sys, time
file = open("/mapped", "w+b"); file.truncate(8192); file.write(b"a" * 8192); file.flush()
page = mmap.mmap(file.fileno(), 8192)
page[0] = ord("b"); open("/first", "w").close()
while not os.path.exists("/go"): time.sleep(0.02)
page[1] = ord("c"); page[5000] = ord("d"); open("/second", "w").close()
time.sleep(600)
"""


class TestHostGate(SnapshotWorld):
    kind = "host"

    @pytest.fixture
    def walks(self, monkeypatch: pytest.MonkeyPatch) -> list[int]:
        """Counts walks over a container's files."""
        seen: list[int] = []
        real = host_capture.UpperScan.look

        def counted(scan: host_capture.UpperScan) -> bool:
            seen.append(1)
            return real(scan)

        monkeypatch.setattr(host_capture.UpperScan, "look", counted)
        return seen

    async def thorough(self, engine: Engine, box: Box, number: int, parent: str) -> SnapshotInfo:
        return await engine.take(
            box.id,
            agent_uid=UID,
            generation=1,
            number=number,
            parent=parent,
            progress=progress,
            options=TakeOptions(thorough=True),
        )

    async def test_a_container_in_which_nothing_ran_is_not_looked_at(
        self, engine: Engine, boxes: Boxes, walks: list[int]
    ) -> None:
        box, _ = await self.fresh(engine, boxes)
        box.sh("echo 1 >/a")
        await asyncio.sleep(0.3)
        first = await self.take(engine, box, 1)
        walks.clear()
        # What keeps the container alive wakes every second, and writes nothing.
        await asyncio.sleep(2.5)
        for number in range(2, 6):
            again = await self.take(engine, box, number, first.ref)
            assert (again.unchanged, again.ref) == (True, first.ref)
        assert walks == []
        assert (await self.thorough(engine, box, 6, first.ref)).unchanged
        assert walks
        box.sh("true")
        walks.clear()
        assert (await self.take(engine, box, 7, first.ref)).unchanged
        assert walks

    async def test_every_way_to_change_a_file_shows(self, engine: Engine, boxes: Boxes, walks: list[int]) -> None:
        box, _ = await self.fresh(engine, boxes)
        box.sh("mkdir /d; for i in 1 2 3 4 5 6 7 8; do echo $i$i >/d/$i; done; ln /d/7 /d/seven")
        taken = await self.take(engine, box, 1)
        changes = (
            "printf 'xx\\n' >/d/1; touch -d @1000000000 /d/1",  # the same size, an old time
            "touch -r /d/2 /tmp/t; printf 'yy\\n' >/d/2; touch -r /tmp/t /d/2; rm /tmp/t",  # the very same time
            "echo 9 >/d/new; touch -r /d/3 /d/new; mv /d/new /d/3",  # renamed over
            "ln -f /d/4 /d/5",
            "echo zz >/d/seven",  # under its other name
            "rm /d/7",
            "chmod 600 /d/6",
            "mv /d /e",
            "python3 -c \"import mmap; f = open('/e/8', 'r+b'); m = mmap.mmap(f.fileno(), 0); m[0] = 65\"",
        )
        for number, change in enumerate(changes, 2):
            box.sh(change)
            # The command ended: what it did is seen, however soon the snapshot comes.
            following = await self.take(engine, box, number, taken.ref)
            assert not following.unchanged, change
            taken = following
            assert (await self.take(engine, box, number + 100, taken.ref)).unchanged
        assert walks

    async def test_a_store_to_a_page_that_is_dirty_already_is_seen(self, engine: Engine, boxes: Boxes) -> None:
        box, _ = await self.fresh(engine, boxes)
        box.daemon.client.containers.get(box.id).exec_run(["python3", "-c", _MAPPED], detach=True)
        box.sh("while [ ! -e /first ]; do sleep 0.02; done")
        first = await self.take(engine, box, 1)
        box.sh("touch /go; while [ ! -e /second ]; do sleep 0.02; done")
        second = await self.take(engine, box, 2, first.ref)
        content = b"".join([piece async for piece in engine.open_file(second.ref, "/mapped")])
        assert (content[:2], content[5000:5001]) == (b"bc", b"d")

    async def test_a_process_in_the_background_is_seen(self, engine: Engine, boxes: Boxes) -> None:
        box, _ = await self.fresh(engine, boxes)
        script = "i=0; while [ $i -lt 40 ]; do i=$((i + 1)); echo $i >/count; sleep 0.05; done; echo end >/end"
        box.daemon.client.containers.get(box.id).exec_run(["sh", "-c", script], detach=True)
        ref: str | None = None
        for number in range(1, 200):
            taken = await self.take(engine, box, number, ref)
            ref = taken.ref
            if await self.has(engine, ref, "/end"):
                break
            await asyncio.sleep(0.05)
        else:
            pytest.fail("the last file was never seen")
        assert b"".join([piece async for piece in engine.open_file(ref, "/count")]) == b"40\n"

    async def test_what_the_daemon_copies_in_is_found_before_the_container_is_given_up(
        self, engine: Engine, boxes: Boxes
    ) -> None:
        box, _ = await self.fresh(engine, boxes)
        box.sh("echo 1 >/a")
        first = await self.take(engine, box, 1)
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as archive:
            member = tarfile.TarInfo("copied")
            member.size = 5
            archive.addfile(member, io.BytesIO(b"hello"))
        box.daemon.api.put_archive(box.id, "/", buffer.getvalue())
        last = await self.thorough(engine, box, 2, first.ref)
        assert (last.unchanged, last.added) == (False, 1)

    async def test_a_restore_that_died_fetches_only_what_is_missing(self, boxes: Boxes, store: LocalStore) -> None:
        engine = self.new_engine(boxes, store)
        box, _ = await self.fresh(engine, boxes)
        box.sh("mkdir /w; for i in $(seq 40); do head -c 1000000 /dev/urandom >/w/$i; done")
        taken = await self.take(engine, box, 1)
        counting = _Counting(store)
        worker = Engine(counting, DockerCaptures(boxes.daemon, kind="host"))
        copy, _ = await self.fresh(worker, boxes, 2)
        await worker.restore(copy.id, agent_uid=UID, generation=2, ref=taken.ref, progress=progress)
        assert counting.fetched > 39_000_000
        # As an attempt leaves it that died in the middle: one file half written, some not there.
        copy.sh("rm /w/1 /w/2; head -c 400000 /w/3 >/w/half; cat /w/half >/w/3; rm /w/half")
        counting.fetched = 0
        await worker.restore(copy.id, agent_uid=UID, generation=2, ref=taken.ref, progress=progress)
        assert 2_900_000 < counting.fetched < 9_000_000
        source, target = (item.sh("cd /w && sha256sum *") for item in (box, copy))
        assert source == target
        assert box.sh("stat -c '%n %y' /w/*") == copy.sh("stat -c '%n %y' /w/*")

    async def test_a_running_container_moves_its_counter(self, boxes: Boxes) -> None:
        box = boxes.make()
        pid = int(box.daemon.api.inspect_container(box.id)["State"]["Pid"])
        gate = CpuGate.find(pid)
        assert gate is not None
        assert pid in gate.processes()
        await asyncio.sleep(0.3)
        box.daemon.api.pause(box.id)
        frozen = gate.read()
        await asyncio.sleep(1.5)
        assert gate.read() == frozen
        box.daemon.api.unpause(box.id)
        before = gate.usage()
        box.sh("true")
        after = gate.usage()
        assert before is not None
        assert after is not None
        assert after > before

    async def has(self, engine: Engine, ref: str, path: str) -> bool:
        return path in [entry.path for entry in await engine.list_files(ref, "/")]


class _Counting(LocalStore):
    def __init__(self, inner: LocalStore) -> None:
        super().__init__(inner._root)
        self.fetched = 0

    async def get_range(self, key: str, start: int, length: int) -> bytes:
        data = await super().get_range(key, start, length)
        self.fetched += len(data)
        return data


def test_the_counter_stands_still_while_all_sleep_and_no_longer(tmp_path: Path) -> None:
    (tmp_path / "cpu.stat").write_text("usage_usec 1234\nuser_usec 1000\nsystem_usec 234\n")
    (tmp_path / "cgroup.procs").write_text(f"{os.getpid()}\n")
    gate = CpuGate(tmp_path / "cpu.stat", tmp_path)
    assert (gate.usage(), gate.processes()) == (1_234_000, {os.getpid()})
    first = gate.read()
    time.sleep(0.01)
    # This very process had a CPU again, whatever the time says.
    assert gate.read() != first
    (tmp_path / "cpu.stat").unlink()
    assert gate.read() is None


def test_files_mapped_for_storing_are_found(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(4096))
    program = (
        "import mmap, sys, time; f = open(sys.argv[1], 'r+b'); "
        "m = mmap.mmap(f.fileno(), 0, access=getattr(mmap, sys.argv[2])); print(flush=True); time.sleep(60)"
    )
    found: dict[str, bool] = {}
    for access in ("ACCESS_WRITE", "ACCESS_COPY", "ACCESS_READ"):
        argv = [sys.executable, "-c", program, str(tmp_path / "file"), access]
        with subprocess.Popen(argv, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            process.stdout.readline()
            (tmp_path / "cgroup.procs").write_text(f"{process.pid}\n")
            found[access] = CpuGate(tmp_path / "cpu.stat", tmp_path).may_store_unseen()
            process.kill()
    assert found == {"ACCESS_WRITE": True, "ACCESS_COPY": False, "ACCESS_READ": False}
