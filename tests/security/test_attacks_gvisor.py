"""The same attacks under gVisor, whose kernel is not the host's: what is left of them does not reach that either."""

import re
from collections.abc import AsyncIterator

import pytest

from activities.errors import SandboxError
from hibernaut.models import OutcomeKind
from tests.security.attacks import ATTACKS, Attack
from tests.security.cell import Cell, Cells, cells
from tests.support.gvisor import RUNTIME, gvisor_dockerd

pytestmark = pytest.mark.slow

AGAIN = [attack for attack in ATTACKS if attack.gvisor != ""]


@pytest.fixture(scope="module")
async def guests(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Cells]:
    async with gvisor_dockerd(tmp_path_factory.mktemp("gv")) as daemon, cells(daemon.host) as made:
        yield made


@pytest.fixture(scope="module")
async def guest(guests: Cells) -> Cell:
    return await guests.make(runtime=RUNTIME, memory_mb=256)


@pytest.mark.parametrize("attack", AGAIN, ids=lambda attack: attack.name)
async def test_an_attack_is_held(guest: Cell, attack: Attack) -> None:
    told = await guest.python(attack.program)
    assert re.fullmatch(attack.gvisor or attack.held, told.stdout.strip()), (told.stdout, told.stderr)


async def test_a_memory_hog_takes_no_more_than_the_limit(guests: Cells, guest: Cell) -> None:
    hog = await guests.make(runtime=RUNTIME, memory_mb=128)
    try:
        told = await hog.run("python3 -c 'print(len(bytearray(1 << 30)))'")
        assert told.end.exit_code not in {0, None}
        assert told.stdout == ""
    except SandboxError:
        # The host's kernel may end the whole of gVisor's.
        pass
    await guest.alive()


async def test_a_disk_filler_is_ended(guests: Cells) -> None:
    cell = await guests.make(runtime=RUNTIME, disk_mb=64)
    async with guests.boxes.disks_watched(0):
        filler = "mkdir /many; for i in $(seq 60); do head -c 10M /dev/zero >/many/$i; done; sleep 20; echo unreachable"
        told = await cell.run(filler, timeout_ms=60_000)
        assert (told.end.kind, told.stdout) == (OutcomeKind.INTERRUPTED, "")
        assert "disk limit (disk_mb)" in told.end.detail
        assert (await cell.run("rm -rf /many; echo cleaned")).stdout == "cleaned\n"
