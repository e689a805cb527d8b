"""Attacks on the kernel and on what is around the container, under runc, as root in the sandbox: the worst case."""

import re

import pytest

from hibernaut.models.isolation import CAPABILITIES
from tests.security.attacks import ATTACKS, Attack
from tests.security.cell import Cell, Cells


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
async def test_an_attack_is_held(shared: Cell, attack: Attack) -> None:
    told = await shared.python(attack.program)
    assert re.fullmatch(attack.held, told.stdout.strip()), (told.stdout, told.stderr)


@pytest.mark.slow
async def test_an_attack_that_is_not_held_is_seen(prison: Cells) -> None:
    """An attack proves nothing unless it tells when it works: the daemon's own default allows these."""
    cell = await prison.make(
        isolation={"seccomp": "docker", "capabilities": [*CAPABILITIES, "NET_RAW", "SYS_NICE"], "nofile": 1024}
    )
    told = {attack.name: (await cell.python(attack.program)).stdout.strip() for attack in ATTACKS}
    assert "breached" in told["io-uring"]
    assert told["raw-sockets"] == "breached breached breached"
    assert "breached" in told["larger-limits"]
