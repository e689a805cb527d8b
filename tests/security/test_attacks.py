"""Attacks on the kernel and on what is around the container, under runc, as root in the sandbox: the worst case."""

import re

import pytest

from hibernaut.models.isolation import CAPABILITIES
from tests.security.attacks import ATTACKS, PRELUDE, Attack
from tests.security.cell import Cell, Cells


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
async def test_an_attack_is_held(shared: Cell, attack: Attack) -> None:
    told = await shared.python(attack.program)
    assert re.fullmatch(attack.held, told.stdout.strip()), (told.stdout, told.stderr)


async def test_the_sockets_that_programs_use_are_made(shared: Cell) -> None:
    told = await shared.python(
        PRELUDE
        + """
inet = [(family, kind, protocol) for family in (2, 10) for kind, protocol in ((1, 0), (1, 6), (2, 0), (2, 17))]
kept = [*inet, (1, 1, 0), (1, 2, 0), (1, 5, 0), (16, 3, 0), (16, 2, 0), (16, 3, 4), (16, 3, 16)]
print(*{attempt(socket.socket, *asked) for asked in kept})
print(attempt(socket.socket, 2, 1, 262), socket.getaddrinfo("127.0.0.1", 80)[0][4][0])
"""
    )
    first, second = told.stdout.splitlines()
    assert first.strip() == "breached", "what is made is told so"
    # MPTCP, if this kernel has it: Go listens with it.
    assert second in {"breached 127.0.0.1", "EPROTONOSUPPORT 127.0.0.1", "ENOPROTOOPT 127.0.0.1"}


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
