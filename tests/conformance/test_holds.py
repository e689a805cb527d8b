"""A process that dies while it holds a container still leaves none behind that is frozen for good."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from activities.adapters.docker_captures import DockerCaptures
from activities.adapters.docker_freeze import Freezer
from activities.adapters.holds import Holds
from activities.errors import SandboxUnavailable
from tests.support.boxes import Box, Boxes
from tests.support.wedges import commands
from workers.watchdog.folder import HostFolder

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

CHECKOUT = Path(__file__).resolve().parents[2]
_HOLDER = """
import sys, time
from pathlib import Path
from activities.adapters.docker_client import Daemon
from activities.adapters.docker_freeze import Freezer
from activities.adapters.holds import Holds
daemon = Daemon()
pid = int(daemon.api.inspect_container(sys.argv[2])["State"]["Pid"])
print("ready", flush=True)
sys.stdin.readline()
with Freezer(daemon, holds=Holds(Path(sys.argv[1]))).frozen(sys.argv[2], pid):
    print("frozen", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def boxes() -> Iterator[Boxes]:
    made = Boxes()
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def folder(tmp_path: Path) -> HostFolder:
    made = HostFolder(tmp_path, "here")
    made.make()
    return made


@contextmanager
def holder(folder: HostFolder, box: Box) -> Generator[subprocess.Popen[bytes]]:
    """A process that holds a container still on demand; killed at the end, and waited for."""
    process = subprocess.Popen(
        [sys.executable, "-c", _HOLDER, str(folder.path / "held"), box.id],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=CHECKOUT,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == b"ready\n"
        process.stdin.write(b"\n")
        process.stdin.flush()
        assert process.stdout.readline() == b"frozen\n"
        yield process
    finally:
        process.kill()
        process.communicate()


def freezer_in(folder: HostFolder, box: Box) -> Freezer:
    return Freezer(box.daemon, folder, folder.held)


def test_what_a_killed_process_held_still_goes_on(boxes: Boxes, folder: HostFolder) -> None:
    box, other = boxes.make(), boxes.make()
    with holder(folder, box) as process, holder(folder, other):
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        assert box.is_paused
        freezer_in(folder, box).recover_all()
        assert not box.is_paused
        assert other.is_paused, "held still by a process that lives"
        assert [folder.held.is_held(each.id) for each in (box, other)] == [False, True]
        assert folder.held.left() == [other.id]
    assert box.sh("echo on") == "on\n"


def test_what_the_watchdog_froze_stays_so(boxes: Boxes, folder: HostFolder) -> None:
    box = boxes.make()
    with holder(folder, box):
        folder.mark(box.id)
    freezer = freezer_in(folder, box)
    freezer.recover_all()
    assert box.is_paused
    # From now on it is the watchdog's alone.
    assert not folder.held.left()
    folder.release(box.id)
    freezer.recover_all()
    assert box.is_paused


@pytest.mark.slow
def test_the_next_snapshot_lets_it_go_on(boxes: Boxes, folder: HostFolder) -> None:
    box = boxes.make()
    captures = DockerCaptures(box.daemon, marks=folder, holds=folder.held)
    with holder(folder, box):
        with pytest.raises(SandboxUnavailable, match="held still by somebody else"):
            captures.open(box.id, None)
        assert box.is_paused
    captures.open(box.id, None)
    assert not box.is_paused
    assert not folder.held.left()


@pytest.mark.slow
def test_also_when_commands_were_starting(boxes: Boxes, folder: HostFolder) -> None:
    for _ in range(3):
        box = boxes.make()
        with commands(box.id):
            with holder(folder, box):
                pass
            # Killed as it was, with whatever the daemon is waiting for.
            freezer_in(folder, box).recover_all()
            assert not folder.held.left()
        assert not box.is_paused
        assert box.sh("echo on") == "on\n"


def test_what_is_held_still_is_noted_only_as_long(boxes: Boxes, folder: HostFolder) -> None:
    box = boxes.make()
    freezer = freezer_in(folder, box)
    pid = int(box.daemon.api.inspect_container(box.id)["State"]["Pid"])
    with freezer.frozen(box.id, pid):
        assert folder.held.left() == [box.id]
        freezer.recover_all()
        assert box.is_paused
    assert folder.held.left() == []
    boxes.remove(box)
    with pytest.raises(Exception, match="gone"), freezer.frozen(box.id, pid):
        raise AssertionError
    assert folder.held.left() == []


def test_notes_of_containers_that_are_gone_go_too(folder: HostFolder, boxes: Boxes) -> None:
    with folder.held.holding("c" * 64):
        pass
    assert folder.held.left() == ["c" * 64]
    Freezer(boxes.daemon, folder, folder.held).recover_all()
    assert folder.held.left() == []


def test_only_names_of_containers_are_files(tmp_path: Path) -> None:
    holds = Holds(tmp_path)
    for name in ("../../etc/passwd", "", "c" * 65):
        with pytest.raises(ValueError, match="no container id"), holds.holding(name):
            raise AssertionError
