"""What is around a sandbox stays out of reach: other agents, this host's services, its files."""

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from activities.errors import HibernautActivityError
from tests.security.attacks import PRELUDE
from tests.security.cell import Cell, Cells, addresses


@pytest.fixture
def service() -> Iterator[int]:
    """A port on every address of this host that anybody may connect to, as Temporal, a store or a gateway might be."""
    with socket.create_server(("0.0.0.0", 0), backlog=16) as server:  # noqa: S104  # what is not to be reached
        yield int(server.getsockname()[1])


async def reached(cell: Cell, places: list[tuple[str, int]]) -> set[str]:
    script = (
        PRELUDE
        + f"""
for place in {places!r}:
    print(attempt(lambda: socket.create_connection(place, timeout=3) and None))
"""
    )
    told = await cell.python(script)
    assert told.end.exit_code == 0, told.stderr
    return set(told.stdout.split())


async def test_no_service_of_the_host_is_reached_without_a_network(shared: Cell, service: int) -> None:
    places = [(address, service) for address in addresses()]
    assert ("127.0.0.1", service) in places
    assert len(places) > 1
    with socket.create_connection(places[0], timeout=3):
        pass
    assert await reached(shared, places) <= {"ENETUNREACH", "ECONNREFUSED"}
    assert await reached(shared, [("169.254.169.254", 80), ("10.0.0.1", 443), ("1.1.1.1", 53)]) == {"ENETUNREACH"}


async def test_no_name_is_resolved_without_a_network(shared: Cell) -> None:
    assert (await shared.run("getent hosts example.com")).stdout == ""


async def test_another_agents_files_and_journal_are_not_to_be_found(prison: Cells) -> None:
    victim, attacker = await asyncio.gather(prison.make(), prison.make())
    canary = f"canary-{uuid4().hex}"
    await victim.run(f"echo {canary} | tee /root/secret /tmp/secret; export SECRET={canary}; sleep 1000 &")
    told = await attacker.run(
        "grep -rsl canary-[0-9a-f] /root /tmp /home /run /var/lib /proc/[0-9]*/root/root /proc/[0-9]*/environ; "
        "ls /proc | grep -c '^[0-9]'; hostname",
        timeout_ms=20_000,
    )
    found = told.stdout.split()
    assert [path for path in found if path.startswith("/")] == []
    # Its own supervisors, init and shell: nobody else's processes.
    assert int(found[0]) < 20
    assert (await victim.run("cat /root/secret")).stdout == f"{canary}\n"


async def test_snapshots_that_lie_on_the_host_are_not_to_be_found(shared: Cell, tmp_path: Path) -> None:
    """Neither from inside, nor by having the worker follow a link for one who asks for files."""
    store = tmp_path / "store"
    store.mkdir()
    pack = store / "pack"
    pack.write_text("canary")
    told = await shared.run(
        f"for root in '' /proc/1/root /proc/self/root /proc/1/cwd /proc/self/root/../..; do cat $root{pack}; done; "
        f"ln -s {pack} /root/pack; ln -s {store} /root/store; ln -s /proc/1/root/../..{store} /root/climbs"
    )
    assert (told.stdout, told.stderr.count("No such file")) == ("", 5)
    for path in ("/root/pack", "/root/store/pack", "/root/climbs/pack", f"/root/../..{pack}"):
        with pytest.raises(HibernautActivityError):
            assert [piece async for piece in shared.boxes.read_file(shared.container.sandbox_id, path)] == []
        with contextlib.suppress(HibernautActivityError):
            await shared.boxes.put_file(shared.container.sandbox_id, path, 0o644, _forged())
    assert (pack.read_text(), [one.name for one in store.iterdir()]) == ("canary", ["pack"])


async def _forged() -> AsyncIterator[bytes]:
    yield b"forged"


async def test_no_process_of_the_host_can_be_named(shared: Cell) -> None:
    told = await shared.python(
        PRELUDE + f"print(attempt(os.kill, {os.getpid()}, 0), attempt(os.kill, 4194000, 0), os.path.exists('/proc/2'))"
    )
    assert told.stdout.split()[0] == "ESRCH" or os.getpid() < 1000, told.stdout
    assert "kthreadd" not in (await shared.run("cat /proc/*/comm")).stdout


async def test_a_disk_of_the_host_is_not_read(shared: Cell) -> None:
    device = Path("/").stat().st_dev
    told = await shared.python(
        PRELUDE
        + f"""
os.mknod("/tmp/disk", 0o600 | 0o060000, os.makedev({os.major(device)}, {os.minor(device)}))
print(attempt(os.open, "/tmp/disk", os.O_RDONLY))
"""
    )
    assert told.stdout == "EPERM\n"


async def test_a_container_has_no_mount_of_the_hosts(shared: Cell) -> None:
    details = await shared.details()
    (journal,) = details["Mounts"]
    assert (journal["Type"], journal["Destination"]) == ("volume", "/run/hibernaut")
    host = details["HostConfig"]
    assert not any((host["Privileged"], host["Binds"], host["Devices"], host["PidMode"], host["UTSMode"]))
    assert host["IpcMode"] == "private"
