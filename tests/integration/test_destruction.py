"""A destroyed sandbox leaves nothing; what is left on purpose is found, removed or named."""

import ctypes
import json
import os
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from pydantic import JsonValue

from activities.adapters import docker_remains
from activities.adapters.docker_client import Daemon
from activities.adapters.docker_sandboxes import DockerSandboxes
from activities.adapters.docker_traces import DockerTraces
from activities.destruction import Destruction
from activities.errors import SandboxUnavailable
from activities.ports.sandbox import CommandRequest, SandboxIdentity
from activities.ports.traces import Found
from hibernaut.models import SandboxSpec

KINDS = ["container", "processes", "volumes", "layers", "mounts", "networks", "way out", "files"]
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="looks at the daemon's own files, as root")


def run(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


def docker(*arguments: str) -> str:
    """What the command line says: another look than the engine's."""
    return run("docker", *arguments)


class Chain:
    """Keeps what is noted for the host's audit."""

    def __init__(self) -> None:
        self.noted: list[tuple[str, dict[str, JsonValue]]] = []
        self.full = False

    def note(self, kind: str, /, **facts: JsonValue) -> None:
        if self.full:
            raise OSError(28, "no space left on device")
        self.noted.append((kind, facts))


class Yard:
    """One agent's sandbox of an image with a volume of its own, and what destroys it."""

    def __init__(self, home: Path, image: str) -> None:
        self.daemon = Daemon()
        self.boxes = DockerSandboxes(self.daemon)
        self.uid = uuid4().hex
        self.image = image
        self.folder = home / "hosts" / "here"
        self.spool = home / "spool"
        self.spool.mkdir(parents=True)
        self.traces = DockerTraces(self.daemon, self.folder, [self.spool])
        self.audit = Chain()
        self.destruction = Destruction(self.boxes, self.traces, self.audit)
        self.id = ""

    async def acquire(self, **spec: object) -> None:
        body = SandboxSpec.model_validate({"image": self.image, **spec})
        made = await self.boxes.acquire(SandboxIdentity("yard", self.uid, 1), body, None)
        self.id = made.sandbox_id
        command = "echo canary > /root/file; echo canary > /data/file; (sleep 600 &)"
        await self.boxes.run(self.id, CommandRequest("t1", command, 20_000), lambda _stream, _data: None, lambda: False)

    def inspected(self, template: str) -> str:
        return docker("inspect", "--format", template, self.id)

    async def destroy(self) -> Found:
        removed, found = await self.destruction.destroy(self.uid, 1)
        assert removed == [self.id]
        return found


@pytest.fixture(scope="module")
def image() -> Iterator[str]:
    """The default sandbox image with a volume at /data."""
    made = docker("create", "hibernaut/sandbox:latest", "true")
    name = f"hibernaut-test/volumes:{uuid4().hex[:8]}"
    docker("commit", "--change", "VOLUME /data", made, name)
    docker("rm", made)
    yield name
    docker("rmi", name)


@pytest.fixture
async def yard(tmp_path: Path, image: str) -> AsyncIterator[Yard]:
    made = Yard(tmp_path, image)
    yield made
    docker("rm", "-f", "-v", made.id)
    await made.boxes.close()


def looked(found: Found) -> dict[str, tuple[int, int]]:
    return {one.what: (one.found, one.removed) for one in found.checked}


async def test_a_destroyed_sandbox_leaves_nothing(yard: Yard) -> None:
    await yard.acquire(network={"mode": "open"})
    volumes = yard.inspected("{{range .Mounts}}{{.Name}} {{end}}").split()
    upper = yard.inspected("{{.GraphDriver.Data.UpperDir}}")
    namespace = yard.inspected("{{.NetworkSettings.SandboxKey}}")
    pid = int(yard.inspected("{{.State.Pid}}"))
    assert len(volumes) == 2
    assert Path(upper, "root/file").read_text() == "canary\n"

    found = await yard.destroy()

    assert found.remnants == ()
    assert [one.what for one in found.checked] == KINDS
    counts = {one.what: one.looked_at for one in found.checked}
    assert counts["volumes"] == 2
    assert all(counts.values()), counts
    # The same seen by others' eyes.
    assert docker("ps", "-aq", "--no-trunc", "--filter", f"id={yard.id}") == ""
    assert not set(volumes) & set(docker("volume", "ls", "-q").split())
    assert yard.id not in docker("network", "inspect", "bridge")
    assert namespace not in Path("/proc/mounts").read_text()
    assert not Path(upper).parent.exists()
    assert Path(upper).parent.name not in Path("/proc/mounts").read_text()
    assert not Path(f"/proc/{pid}").exists()
    assert run("find", "/sys/fs/cgroup", str(yard.folder), str(yard.spool), "-name", f"*{yard.id[:12]}*") == ""
    # And it is kept.
    [(kind, facts)] = yard.audit.noted
    assert (kind, facts["sandbox_id"], facts["remnants"]) == ("sandbox.destroyed", yard.id, [])
    assert json.dumps(facts)


async def test_a_volume_that_another_container_holds_is_named(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(docker_remains, "PATIENCE_S", 1.5)
    await yard.acquire()
    volumes = yard.inspected("{{range .Mounts}}{{.Name}} {{end}}").split()
    other = docker("run", "-d", "--rm", "--volumes-from", yard.id, "hibernaut/sandbox:latest", "sleep", "600")
    try:
        found = await yard.destroy()
        assert {f"volumes: {name}" for name in volumes} <= set(found.remnants)
        assert looked(found)["volumes"] == (2, 0)
    finally:
        docker("rm", "-f", "-v", other)
        docker("volume", "rm", *volumes)


async def test_what_is_waited_for_keeps_no_way_out_open(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(docker_remains, "PATIENCE_S", 1.2)
    await yard.acquire()
    volumes = yard.inspected("{{range .Mounts}}{{.Name}} {{end}}").split()
    left = [yard.folder / "egress" / "doors" / f"{yard.id}.json", yard.folder / "frozen" / yard.id]
    for path in left:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{}")
    # All of the patience goes into these.
    other = docker("run", "-d", "--rm", "--volumes-from", yard.id, "hibernaut/sandbox:latest", "sleep", "600")
    try:
        found = await yard.destroy()
        assert not any(path.exists() for path in left)
        assert (looked(found)["way out"], looked(found)["files"]) == ((1, 1), (1, 1))
    finally:
        docker("rm", "-f", "-v", other)
        docker("volume", "rm", *volumes)


async def test_nothing_is_taken_from_a_container_that_is_there(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(docker_remains, "PATIENCE_S", 1.5)
    await yard.acquire()
    mark = yard.folder / "frozen" / yard.id
    mark.parent.mkdir(parents=True)
    mark.touch()
    yard.traces.note(yard.uid, 1)
    [trace] = yard.traces.noted()
    found = yard.traces.look(trace)
    assert f"container: {yard.id}" in found.remnants
    assert yard.inspected("{{.State.Running}}") == "true"
    assert mark.exists()
    assert not any(one.removed for one in found.checked)


async def test_a_mount_that_keeps_the_files_alive_is_named(
    yard: Yard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(docker_remains, "PATIENCE_S", 1.5)
    await yard.acquire()
    upper = yard.inspected("{{.GraphDriver.Data.UpperDir}}")
    at = tmp_path / "kept"
    at.mkdir()
    _mount(upper, at)
    try:
        found = await yard.destroy()
        assert f"mounts: {at}" in found.remnants
    finally:
        run("umount", str(at))


async def test_files_and_rules_left_behind_are_removed(yard: Yard) -> None:
    await yard.acquire()
    left = [
        yard.folder / "frozen" / yard.id,
        yard.folder / "held" / yard.id,
        yard.folder / "egress" / "doors" / f"{yard.id}.json",
        yard.spool / f"hibernaut-put-{yard.id[:12]}-x1",
    ]
    others = yard.spool / "hibernaut-put-0123456789ab-x1"
    for path in [*left, others]:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{}")

    found = await yard.destroy()

    assert found.remnants == ()
    assert looked(found)["files"] == (3, 3)
    assert looked(found)["way out"] == (1, 1)
    assert not any(path.exists() for path in left)
    assert others.exists(), "another's is not touched"


async def test_a_worker_that_dies_before_it_looked_is_followed_by_one_that_looks(yard: Yard) -> None:
    await yard.acquire()
    yard.traces.note(yard.uid, 1)
    mark = yard.folder / "frozen" / yard.id
    mark.parent.mkdir(parents=True)
    mark.touch()
    # It got as far as this.
    await yard.boxes.destroy(yard.uid, 1)

    again = Destruction(yard.boxes, DockerTraces(yard.daemon, yard.folder, [yard.spool]), yard.audit)
    removed, found = await again.destroy(yard.uid, 1)

    assert removed == []
    assert looked(found)["files"] == (1, 1)
    assert {one.what: one.looked_at for one in found.checked}["volumes"] == 2
    assert yard.traces.noted() == []


async def test_a_full_disk_keeps_no_sandbox_from_being_destroyed(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    await yard.acquire()
    with monkeypatch.context() as full:

        def write(self: Path, text: str, encoding: str) -> int:
            self.write_bytes(text.encode(encoding)[:5])
            raise OSError(28, "No space left on device")

        full.setattr(Path, "write_text", write)
        found = await yard.destroy()
    # It may be what fills the disk; it is looked for all the same.
    assert ([one.what for one in found.checked], found.remnants) == (KINDS, ())
    assert {one.what: one.looked_at for one in found.checked}["volumes"] == 2
    assert yard.traces.noted() == []
    assert list((yard.folder / "leaving").iterdir()) == []


async def test_what_a_new_generation_replaces_is_looked_for_too(yard: Yard) -> None:
    await yard.acquire()
    old = yard.id
    async with yard.destruction.replacing(yard.uid, 2):
        made = await yard.boxes.acquire(SandboxIdentity("yard", yard.uid, 2), SandboxSpec(image=yard.image), None)
    yard.id = made.sandbox_id
    [(_, facts)] = yard.audit.noted
    assert (facts["sandbox_id"], facts["generation"], facts["remnants"]) == (old, 1, [])
    assert docker("inspect", "--format", "{{.State.Running}}", yard.id) == "true"
    assert yard.traces.noted() == []


async def test_a_destruction_that_cannot_be_noted_is_not_forgotten(yard: Yard) -> None:
    await yard.acquire()
    yard.audit.full = True
    with pytest.raises(SandboxUnavailable, match="audit"):
        await yard.destroy()
    yard.audit.full = False
    found = await yard.destruction.look_for_removed()
    assert [one.what for one in found.checked] == KINDS
    assert [kind for kind, _ in yard.audit.noted] == ["sandbox.destroyed"]


def _mount(source: str, target: Path) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    bind = 4096
    if libc.mount(os.fsencode(source), os.fsencode(target), None, bind, None) != 0:
        raise OSError(ctypes.get_errno(), "mount")
