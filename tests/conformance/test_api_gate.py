"""The proof from inside a container that nothing ran: what it spares, and what must not slip through it."""

from __future__ import annotations

import asyncio
import io
import tarfile
from typing import TYPE_CHECKING, Any

import pytest

from activities.adapters import api_scan
from activities.adapters.api_shell import ContainerShell
from activities.ports.snapshots import SnapshotInfo, TakeOptions
from tests.conformance.snapshot_world import UID, SnapshotWorld, progress

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from activities.adapters.api_large import Summed
    from activities.adapters.api_listing import Seen
    from activities.adapters.api_shell import End
    from activities.snapshots.capture import Control
    from activities.snapshots.engine import Engine
    from activities.snapshots.entries import Entry
    from activities.snapshots.packs import PackWriter
    from tests.support.boxes import Box, Boxes

_MAPPED = """
import mmap, os, time
file = open("/mapped", "w+b"); file.truncate(8192); file.write(b"a" * 8192); file.flush()
page = mmap.mmap(file.fileno(), 8192)
page[0] = ord("b"); open("/first", "w").close()
while not os.path.exists("/go"): time.sleep(0.02)
page[1] = ord("c"); page[5000] = ord("d"); open("/second", "w").close()
time.sleep(600)
"""


class TestApiGate(SnapshotWorld):
    kind = "api"

    @pytest.fixture
    def listings(self, monkeypatch: pytest.MonkeyPatch) -> list[ContainerShell]:
        """Each listing that is made, by its shell."""
        seen: list[ContainerShell] = []
        real = ContainerShell.list

        def counted(
            shell: ContainerShell,
            control: Control,
            take: Callable[[bytes], None] | None = None,
            ahead: tuple[bytes, int] | None = None,
        ) -> tuple[bytes, End]:
            seen.append(shell)
            return real(shell, control, take, ahead)

        monkeypatch.setattr(ContainerShell, "list", counted)
        return seen

    @pytest.fixture
    def between(self, monkeypatch: pytest.MonkeyPatch) -> list[Callable[[], object]]:
        """Things to do once: the first before the next listed paths are read, the second after."""
        todo: list[Callable[[], object]] = []
        real = api_scan.read_paths

        def read(
            shell: ContainerShell,
            wanted: Mapping[bytes, Seen],
            is_opaque: Callable[[bytes], bool],
            writer: PackWriter,
            control: Control,
            summed: Mapping[bytes, Summed],
        ) -> tuple[dict[bytes, Entry], End]:
            if todo:
                todo.pop(0)()
            done = real(shell, wanted, is_opaque, writer, control, summed)
            if todo:
                todo.pop(0)()
            return done

        monkeypatch.setattr(api_scan, "read_paths", read)
        return todo

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

    async def content(self, engine: Engine, ref: str, path: str) -> bytes:
        return b"".join([piece async for piece in engine.open_file(ref, path)])

    async def test_a_container_in_which_nothing_ran_is_not_listed(
        self, engine: Engine, boxes: Boxes, listings: list[ContainerShell]
    ) -> None:
        box, _ = await self.fresh(engine, boxes)
        box.sh("echo 1 >/a")
        # A command whose output has ended may itself be about to.
        await asyncio.sleep(0.3)
        listings.clear()
        first = await self.take(engine, box, 1)
        assert len(listings) == 1
        for number in range(2, 6):
            # Long enough for init and what keeps the container alive to wake.
            await asyncio.sleep(0.5)
            again = await self.take(engine, box, number, first.ref)
            assert (again.unchanged, again.ref) == (True, first.ref)
        assert len(listings) == 1
        assert (await self.thorough(engine, box, 6, first.ref)).unchanged
        assert len(listings) == 2
        box.sh("true")
        assert (await self.take(engine, box, 7, first.ref)).unchanged
        assert len(listings) == 3

    async def test_every_way_to_change_a_file_shows(self, engine: Engine, boxes: Boxes) -> None:
        box, fresh = await self.fresh(engine, boxes)
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
            "rm -r /e/1; rm -r /etc/skel; rm /etc/issue",
            "mkdir /etc/skel; echo >/etc/issue",
        )
        for number, change in enumerate(changes, 2):
            box.sh(change)
            # The command ended: what it did is seen, however soon the snapshot comes.
            following = await self.take(engine, box, number, taken.ref)
            assert not following.unchanged, change
            taken = following
            assert (await self.take(engine, box, number + 100, taken.ref)).unchanged
        await self.check_restore(engine, boxes, box, fresh, taken.ref)

    async def test_a_store_to_a_page_that_is_dirty_already_is_seen(self, engine: Engine, boxes: Boxes) -> None:
        box, _ = await self.fresh(engine, boxes)
        box.daemon.client.containers.get(box.id).exec_run(["python3", "-c", _MAPPED], detach=True)
        box.sh("while [ ! -e /first ]; do sleep 0.02; done")
        first = await self.take(engine, box, 1)
        box.sh("touch /go; while [ ! -e /second ]; do sleep 0.02; done")
        second = await self.take(engine, box, 2, first.ref)
        content = await self.content(engine, second.ref, "/mapped")
        assert (content[:2], content[5000:5001]) == (b"bc", b"d")

    async def test_a_process_that_sleeps_now_is_seen_later(
        self, engine: Engine, boxes: Boxes, listings: list[ContainerShell]
    ) -> None:
        box, _ = await self.fresh(engine, boxes)
        script = "echo 1 >/early; read go; echo 2 >/late; read go"
        held = box.daemon.api.exec_create(box.id, ["sh", "-c", script], stdin=True)["Id"]
        stream: Any = box.daemon.api.exec_start(held, socket=True)
        try:
            box.sh("while [ ! -e /early ]; do sleep 0.02; done")
            await asyncio.sleep(0.3)
            listings.clear()
            first = await self.take(engine, box, 1)
            assert (await self.take(engine, box, 2, first.ref)).unchanged
            assert len(listings) == 1
            stream._sock.sendall(b"go\n")
            taken, number = first, 2
            while taken.ref == first.ref and number < 100:
                number += 1
                taken = await self.take(engine, box, number, first.ref)
            assert await self.content(engine, taken.ref, "/late") == b"2\n"
        finally:
            stream._response.close()
            stream.close()

    async def test_a_process_in_the_background_is_seen(self, engine: Engine, boxes: Boxes) -> None:
        box, _ = await self.fresh(engine, boxes)
        script = "i=0; while [ $i -lt 40 ]; do i=$((i + 1)); echo $i >/count; sleep 0.05; done; echo end >/end"
        box.daemon.client.containers.get(box.id).exec_run(["sh", "-c", script], detach=True)
        ref: str | None = None
        for number in range(1, 200):
            taken = await self.take(engine, box, number, ref)
            ref = taken.ref
            if "/end" in [entry.path for entry in await engine.list_files(ref, "/")]:
                break
            await asyncio.sleep(0.05)
        else:
            pytest.fail("the last file was never seen")
        assert await self.content(engine, ref, "/count") == b"40\n"

    async def test_what_runs_while_files_are_read(
        self, engine: Engine, boxes: Boxes, between: list[Callable[[], object]], listings: list[ContainerShell]
    ) -> None:
        box, fresh = await self.fresh(engine, boxes)
        box.sh("mkdir /w; for i in $(seq 50); do echo $i >/w/$i; done")
        listings.clear()
        between += [lambda: box.sh("echo before >/w/7; rm /w/8"), lambda: box.sh("echo after >/w/9; ln /w/10 /w/ten")]
        first = await self.take(engine, box, 1)
        assert len(listings) > 1
        assert await self.content(engine, first.ref, "/w/7") == b"before\n"
        assert await self.content(engine, first.ref, "/w/9") == b"after\n"
        # Nothing was proved: what is told next comes from a look.
        listings.clear()
        same = await self.take(engine, box, 2, first.ref)
        assert same.unchanged
        await self.check_restore(engine, boxes, box, fresh, same.ref)
        # Something that ran and did nothing costs a second listing, and no more.
        box.sh("echo more >/w/11")
        between.append(lambda: box.sh("true"))
        listings.clear()
        assert (await self.take(engine, box, 3, first.ref)).changed == 1
        assert len(listings) == 2

    async def test_a_shell_that_was_killed_proves_nothing(
        self, engine: Engine, boxes: Boxes, listings: list[ContainerShell]
    ) -> None:
        box, _ = await self.fresh(engine, boxes)
        box.sh("echo 1 >/a")
        listings.clear()
        first = await self.take(engine, box, 1)
        look = listings[-1].look()
        assert look is not None
        box.sh(f"kill -9 {look.shell}; echo 2 >/a")
        second = await self.take(engine, box, 2, first.ref)
        assert second.changed == 1
        assert listings[-1] is not listings[0]
        box.daemon.api.restart(box.id, timeout=1)
        third = await self.take(engine, box, 3, second.ref)
        assert third.unchanged
        assert listings[-1] is not listings[1]

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
