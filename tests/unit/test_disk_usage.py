"""What a container has written, and which processes are its own, where the machine is not as it should be."""

import os
from contextlib import nullcontext
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from activities.adapters import disk_usage
from activities.adapters.disk_usage import Written
from activities.adapters.disk_watch import DiskWatch
from activities.adapters.docker_client import Daemon
from activities.adapters.docker_control import ContainerControl
from activities.adapters.ending import end_processes
from activities.ports.sandbox import Owned

CONTAINER = "c0ffee" * 10 + "beef"


def test_a_number_that_became_another_process_ends_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The init process has ended, and its number is now that of a process of the host."""
    group = tmp_path / "system.slice" / "ssh.service" / "cgroup.procs"
    group.parent.mkdir(parents=True)
    group.write_text(f"{os.getpid()}\n")
    killed: list[int] = []

    def found(*_: object) -> Path:
        return group

    def kill(pid: int, _: Written) -> None:
        killed.append(pid)

    monkeypatch.setattr(disk_usage, "cgroup_file", found)
    monkeypatch.setattr("activities.adapters.ending._kill", kill)
    written = Written(container=CONTAINER, pid=os.getppid(), folders=(tmp_path,))
    end_processes(written, supervisors=True)
    assert killed == []
    assert not written.current()
    assert not written.holds(os.getpid())
    assert not written.crowded()


def test_the_containers_own_group_is_found_by_its_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    group = tmp_path / f"docker-{CONTAINER}.scope" / "cgroup.procs"
    group.parent.mkdir()
    group.write_text("1234567\n")

    def found(*_: object) -> Path:
        return group

    monkeypatch.setattr(disk_usage, "cgroup_file", found)
    written = Written(container=CONTAINER, pid=1234567, folders=(tmp_path,))
    assert written.current()
    assert written.processes() == {1234567}


def test_the_users_language_does_not_lift_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What `du` calls its last line depends on it."""
    program = tmp_path / "bin" / "du"
    program.parent.mkdir()
    program.write_text('#!/bin/sh\n[ "$LC_ALL" = C ] && label=total || label=insgesamt\nprintf "5\\t%s\\n" "$label"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    assert Written(container=CONTAINER, pid=0, folders=(tmp_path,)).size() == 5 + 5 * disk_usage.FILE_BYTES


def test_a_container_that_is_not_to_be_seen_is_told_once_and_not_asked_for_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As on Docker Desktop, with a daemon elsewhere, and for a worker that is not root."""
    asked: list[str] = []
    owned = Owned(
        sandbox_id=CONTAINER,
        agent_id="a",
        agent_uid="u",
        generation=1,
        running=True,
        paused=False,
        created_at=datetime.now(UTC),
    )

    def inspect(sandbox_id: str) -> dict[str, object]:
        asked.append(sandbox_id)
        return {"Id": sandbox_id}

    monkeypatch.setattr("os.geteuid", lambda: 1000)
    monkeypatch.setattr("activities.adapters.disk_watch.LIST_S", 0.0)
    daemon = SimpleNamespace(api=SimpleNamespace(inspect_container=inspect))
    control = SimpleNamespace(owned=lambda: [owned])
    watch = DiskWatch(
        cast("Daemon", daemon), cast("ContainerControl", control), lambda _: nullcontext(enter_result=False)
    )
    for _ in range(3):
        assert watch.look() == []
    assert asked == [CONTAINER]
    assert len(caplog.records) == 1
    assert "run the worker as root on the Docker daemon's host" in caplog.text
