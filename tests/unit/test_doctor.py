"""The doctor's judgement of what a Docker daemon says."""

import json
import os
from collections import defaultdict
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2
import pytest

from hibernaut import _doctor
from hibernaut._doctor import Machine, judged
from hibernaut.cli import app

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
VERSION = {"Version": "20.10.24+dfsg1", "Os": "linux", "KernelVersion": "6.1.0"}
INFO: dict[str, Any] = {
    "Runtimes": {"runc": {}, "runsc": {"path": "/usr/bin/runsc", "runtimeArgs": ["--network=host"]}},
    "CgroupVersion": "2",
    "CgroupDriver": "systemd",
    "MemoryLimit": True,
    "SwapLimit": True,
    "CpuCfsQuota": True,
    "PidsLimit": True,
    "SecurityOptions": ["name=apparmor", "name=seccomp,profile=default", "name=cgroupns"],
    "Driver": "overlay2",
    "DriverStatus": [["Backing Filesystem", "xfs"], ["Supports d_type", "true"]],
    "DockerRootDir": "/var/lib/docker",
    "SystemTime": "2026-03-01T13:00:01.123456789+01:00",
}
MACHINE = Machine(
    now=NOW, find={"/usr/bin/runsc": "/usr/bin/runsc"}.get, kvm=False, root=True, free_bytes=lambda _: 50 << 30
)


def told(info: dict[str, Any] | None = None, machine: Machine = MACHINE) -> dict[str, tuple[str, str]]:
    return {check.name: (check.state, check.found) for check in judged(VERSION, {**INFO, **(info or {})}, machine)}


def wrong(info: dict[str, Any] | None = None, machine: Machine = MACHINE) -> set[tuple[str, str]]:
    return {(name, state) for name, (state, _) in told(info, machine).items() if state != "ok"}


def test_a_host_with_everything_but_kata() -> None:
    assert wrong() == {("runtime kata", "missing"), ("user namespaces", "missing")}
    assert "kata-runtime" in told()["runtime kata"][1]
    assert "/dev/kvm" in told()["runtime kata"][1]


@pytest.mark.parametrize(
    ("info", "expected"),
    [
        ({"MemoryLimit": False}, ("cgroups", "failed")),
        ({"SwapLimit": False}, ("cgroups", "missing")),
        ({"SecurityOptions": []}, ("seccomp", "failed")),
        ({"DriverStatus": [["Backing Filesystem", "extfs"]]}, ("disk quotas", "missing")),
        ({"SystemTime": "2026-03-01T12:01:00Z"}, ("clock", "missing")),
        ({"SystemTime": "yesterday"}, ("clock", "missing")),
        ({"Runtimes": {"runc": {}, "runsc": {}}}, ("network allowlist", "missing")),
        ({"Runtimes": {"crun": {}}}, ("runtime runc", "failed")),
    ],
)
def test_what_is_missing_is_told(info: dict[str, Any], expected: tuple[str, str]) -> None:
    assert expected in wrong(info)


NOTHING: dict[str, str] = {}
NO_FOLDER: dict[str, int] = {}
KATA = {"Runtimes": {"runc": {"path": "runc"}, "kata": {"runtimeType": "io.containerd.kata.v2"}}}


@pytest.mark.parametrize(
    ("info", "machine", "state", "said"),
    [
        ({}, MACHINE, "missing", "no program containerd-shim-kata-v2 or kata-runtime"),
        (KATA, MACHINE, "missing", "the daemon starts it by containerd-shim-kata-v2, which is not on this machine"),
        (KATA, replace(MACHINE, find=str), "missing", "no use of /dev/kvm"),
        (KATA, replace(MACHINE, find=str, kvm=True), "ok", "offered: io.containerd.kata.v2"),
        (KATA, replace(MACHINE, kvm=True, free_bytes=NO_FOLDER.get), "ok", "offered"),
    ],
)
def test_what_kata_lacks_is_told_one_by_one(info: dict[str, Any], machine: Machine, state: str, said: str) -> None:
    found = told(info, machine)
    assert found["runtime kata"][0] == state
    assert said in found["runtime kata"][1]
    assert ("kata has none" in found["network allowlist"][1]) == bool(info)


def test_how_a_runtime_is_started_is_told_and_a_program_that_is_gone() -> None:
    assert told()["runtime runsc"] == ("ok", "offered: /usr/bin/runsc --network=host")
    state, said = told(machine=replace(MACHINE, find=NOTHING.get))["runtime runsc"]
    assert (state, "/usr/bin/runsc, which is not on this machine" in said) == ("missing", True)


@pytest.mark.parametrize(
    ("driver", "backing", "options", "state"),
    [
        ("overlay2", "xfs", "rw,attr2,prjquota", "ok"),
        ("overlay2", "xfs", "rw,attr2,noquota", "missing"),
        ("overlay2", "xfs", "", "ok"),
        ("overlay2", "extfs", "rw", "missing"),
        ("btrfs", "", "rw", "ok"),
        ("vfs", "xfs", "rw,pquota", "missing"),
    ],
)
def test_quotas_are_those_of_the_mount(driver: str, backing: str, options: str, state: str) -> None:
    info = {"Driver": driver, "DriverStatus": [["Backing Filesystem", backing]]}
    assert told(info, replace(MACHINE, mounted=defaultdict(lambda: options).__getitem__))["disk quotas"][0] == state


def test_user_namespaces_are_seen() -> None:
    assert told({"SecurityOptions": ["name=seccomp,profile=default", "name=userns"]})["user namespaces"][0] == "ok"


def test_little_disk_fails_and_a_daemon_elsewhere_is_told() -> None:
    little = Machine(now=NOW, find=lambda _: None, kvm=True, root=False, free_bytes=lambda _: 1 << 20)
    assert wrong(machine=little) >= {("free disk", "failed"), ("worker beside the daemon", "missing")}
    late = NOW + timedelta(minutes=1)
    elsewhere = Machine(now=late, find=lambda _: None, kvm=True, root=True, free_bytes=lambda _: None)
    assert "free disk" not in told(machine=elsewhere)
    assert wrong(machine=elsewhere) >= {("worker beside the daemon", "missing"), ("clock", "missing")}


@pytest.mark.parametrize(
    ("name", "apart"), [("another-machine", True), (os.uname().nodename, False)], ids=["elsewhere", "here"]
)
def test_what_lies_here_is_not_taken_for_that_of_a_daemon_elsewhere(
    name: str, *, apart: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both machines have a /var/lib/docker, and this one says nothing of the other's."""
    answers = {"/version": VERSION, "/info": {**INFO, "Name": name, "DockerRootDir": "/"}}
    transport = httpx2.MockTransport(lambda request: httpx2.Response(200, json=answers.get(request.url.path, {})))

    def client(url: str) -> httpx2.Client:
        return httpx2.Client(transport=transport, base_url=url.replace("tcp", "http"))

    monkeypatch.setattr(_doctor, "_client", client)
    monkeypatch.setattr(os, "geteuid", int)
    found = {check.name: check for check in _doctor.examine("tcp://far.example:2375", "some/image")}
    assert ("free disk" not in found) == apart
    assert (found["worker beside the daemon"].state, found["network allowlist"].state) == (
        ("missing", "missing") if apart else ("ok", "ok")
    )


def test_an_old_daemon_is_refused() -> None:
    (first, *_) = judged({"Version": "19.03.1", "Os": "linux"}, INFO, MACHINE)
    assert first.state == "failed"


def test_without_a_daemon_the_exit_code_is_1(capsys: pytest.CaptureFixture[str]) -> None:
    assert app.run(["doctor", "-o", "json", "--docker", "unix:///nowhere/docker.sock"]) == 1
    answer = json.loads(capsys.readouterr().out)
    assert answer["ready"] is False
    assert answer["checks"][0]["name"] == "docker"
    assert app.run(["doctor", "--docker", "ssh://somewhere"]) == 1


def test_this_machine_is_examined(capsys: pytest.CaptureFixture[str]) -> None:
    assert app.run(["doctor", "-o", "json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["ready"] is True
    assert {check["name"] for check in answer["checks"]} >= {"docker", "runtime runc", "sandbox image", "free disk"}
    (image,) = (check for check in _doctor.examine(None, "hibernaut/no-such:1") if check.name == "sandbox image")
    assert image.state == "missing"
