"""Large files through the Docker API: of what changed before, what changes again is read alone."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from activities.adapters import api_scan
from activities.adapters.api_shell import ContainerShell
from tests.conformance.snapshot_world import SnapshotWorld

if TYPE_CHECKING:
    from collections.abc import Callable

    from activities.snapshots.engine import Engine
    from tests.support.boxes import Box, Boxes

_BIG = "/srv/big file"
_MAKE = f"import random; open({_BIG!r}, 'wb').write(random.Random(1).randbytes(40_000_000))"
_EDIT = f"f = open({_BIG!r}, 'r+b'); f.seek(%d); f.write(%r * %d)"


class TestApiLarge(SnapshotWorld):
    kind = "api"

    @pytest.fixture
    def whole(self, monkeypatch: pytest.MonkeyPatch) -> list[int]:
        """Of each time that paths are read: how many large files are read whole."""
        found: list[int] = []
        real: Callable[..., Any] = api_scan.read_paths

        def read(shell: ContainerShell, wanted: dict[bytes, Any], *rest: Any) -> Any:  # noqa: ANN401  # as the real one
            found.append(sum(seen.size > 1 << 24 for seen in wanted.values()))
            return real(shell, wanted, *rest)

        monkeypatch.setattr(api_scan, "read_paths", read)
        return found

    @pytest.fixture
    def parts(self, monkeypatch: pytest.MonkeyPatch) -> list[int]:
        """Each part of a large file that is asked for: its first block."""
        found: list[int] = []
        real = ContainerShell.part

        def part(shell: ContainerShell, path: bytes, block: int, *rest: Any) -> Any:  # noqa: ANN401  # as the real one
            found.append(block)
            return real(shell, path, block, *rest)

        monkeypatch.setattr(ContainerShell, "part", part)
        return found

    def edit(self, box: Box, at: int, data: bytes, times: int = 1) -> None:
        box.python(_EDIT % (at, data, times))

    @pytest.mark.slow
    async def test_every_change_is_restored(
        self, engine: Engine, boxes: Boxes, whole: list[int], parts: list[int]
    ) -> None:
        box, fresh = await self.fresh(engine, boxes)
        box.python(_MAKE)
        taken = await self.take(engine, box, 1)
        changes: tuple[Callable[[], object], ...] = (
            lambda: self.edit(box, 5, b"first: read whole, for nobody knows its sums"),
            lambda: self.edit(box, 20_000_000, b"x", 70_000),
            lambda: self.edit(box, 20_000_000, b"y", 70_000),
            lambda: self.edit(box, 40_000_000, b"appended", 100_000),
            lambda: box.sh(f"truncate -s 35000001 '{_BIG}'"),
            lambda: box.sh(
                f"touch -r '{_BIG}' /tmp/t; printf z | dd of='{_BIG}' conv=notrunc; touch -r /tmp/t '{_BIG}'"
            ),
            lambda: box.sh(f"chmod 604 '{_BIG}'; chown 7:8 '{_BIG}'; touch -d @1.5 '{_BIG}'"),
            lambda: box.python(f"import os; os.setxattr({_BIG!r}, 'user.note', b'1')"),
        )
        for number, change in enumerate(changes, 2):
            change()
            # A command whose output has ended may itself be about to.
            await asyncio.sleep(0.4)
            before = sum(whole)
            taken = await self.take(engine, box, number, taken.ref)
            assert not taken.unchanged
            assert (sum(whole) > before) == (number == 2), number
        assert len(parts) <= 4 * 4 + 8
        await self.check_restore(engine, boxes, box, fresh, taken.ref)

    @pytest.mark.slow
    async def test_what_becomes_another_sort_is_read_whole(
        self, engine: Engine, boxes: Boxes, whole: list[int]
    ) -> None:
        box, fresh = await self.fresh(engine, boxes)
        box.python(_MAKE)
        taken = await self.take(engine, box, 1)
        changes: tuple[tuple[Callable[[], object], bool], ...] = (
            (lambda: self.edit(box, 5, b"known from now on"), True),
            (lambda: box.sh(f"fallocate --punch-hole -o 16777216 -l 8388608 '{_BIG}'"), True),
            (lambda: box.sh(f"cp --sparse=never '{_BIG}' /srv/copy; mv /srv/copy '{_BIG}'"), True),
            (lambda: box.sh(f"truncate -s 1000 '{_BIG}'"), False),
            (lambda: box.sh(f"rm '{_BIG}'; ln -s /etc/passwd '{_BIG}'"), False),
        )
        for number, (change, is_read) in enumerate(changes, 2):
            change()
            await asyncio.sleep(0.4)
            before = sum(whole)
            taken = await self.take(engine, box, number, taken.ref)
            assert (sum(whole) > before) == is_read, number
        await self.check_restore(engine, boxes, box, fresh, taken.ref)

    @pytest.mark.slow
    async def test_a_file_that_never_holds_still_is_never_mixed_up(self, engine: Engine, boxes: Boxes) -> None:
        box, fresh = await self.fresh(engine, boxes)
        box.python(_MAKE)
        taken = await self.take(engine, box, 1)
        self.edit(box, 5, b"known from now on")
        taken = await self.take(engine, box, 2, taken.ref)
        box.sh(
            "(i=0; while [ ! -e /stop ]; do "
            f"printf $i | dd of='{_BIG}' conv=notrunc bs=1 seek=$((i * 1048576 % 39000000)); i=$((i+1)); done; "
            "touch /stopped) >/dev/null 2>&1 &"
        )
        for number in range(3, 6):
            taken = await self.take(engine, box, number, taken.ref)
        box.sh("touch /stop; while [ ! -e /stopped ]; do sleep 0.1; done")
        await asyncio.sleep(0.4)
        taken = await self.take(engine, box, 6, taken.ref)
        await self.check_restore(engine, boxes, box, fresh, taken.ref)

    @pytest.mark.slow
    async def test_an_image_without_the_tools_for_it(
        self, engine: Engine, boxes: Boxes, whole: list[int], parts: list[int]
    ) -> None:
        box, fresh = await self.fresh(engine, boxes)
        box.sh("rm /usr/bin/b2sum")
        box.python(_MAKE)
        taken = await self.take(engine, box, 1)
        for number in range(2, 5):
            self.edit(box, number * 1_000_000, b"changed")
            taken = await self.take(engine, box, number, taken.ref)
        assert not parts
        assert sum(whole) >= 4
        await self.check_restore(engine, boxes, box, fresh, taken.ref)
