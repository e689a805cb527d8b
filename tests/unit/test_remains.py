"""What counts as a trace of a container that is gone, and what is another's."""

from pathlib import Path

import pytest

from activities.adapters import docker_remains
from activities.adapters.docker_client import Daemon
from activities.adapters.docker_remains import Remains
from activities.ports.traces import Trace

LONG = "ab" * 32
ROOT = "/var/lib/containerd/io.containerd.snapshotter.v1.overlayfs/snapshots"


def line(point: str, root: str = "/", options: str = "rw") -> bytes:
    return f"36 35 98:0 {root} {point} rw,noatime - overlay overlay {options}".encode()


@pytest.mark.parametrize(
    ("layer", "there", "name"),
    [
        # containerd's names are numbers: many begin with the same digits.
        (f"{ROOT}/12", line("/m1", options=f"rw,lowerdir={ROOT}/3/fs,upperdir={ROOT}/12/fs"), "/m1"),
        (f"{ROOT}/12", line("/m2", root=f"{ROOT}/12"), "/m2"),
        (f"{ROOT}/12", line("/m3", options=f"rw,lowerdir={ROOT}/3/fs,upperdir={ROOT}/123/fs"), None),
        (f"{ROOT}/12", line("/run/user/12"), None),
        (f"{ROOT}/12", line("/m4", root="/home/12/fs"), None),
        (f"/var/lib/docker/overlay2/{LONG}", line("/m5", root=f"/overlay2/{LONG}/diff"), "/m5"),
        # Of a disk of their own, paths begin there.
        (f"/var/lib/docker/overlay2/{LONG}", line("/m6", root=f"/{LONG}/diff"), "/m6"),
        (f"/var/lib/docker/overlay2/{LONG}", line("/m7", options=f"rw,lowerdir=l/A,upperdir={LONG}/diff"), "/m7"),
        (f"/var/lib/docker/overlay2/{LONG}", line("/m8", root=f"/overlay2/{'cd' * 32}/diff"), None),
    ],
)
def test_a_mount_is_a_trace_when_it_is_of_a_layer_of_its_own(
    monkeypatch: pytest.MonkeyPatch, layer: str, there: bytes, name: str | None
) -> None:
    monkeypatch.setattr(docker_remains, "_mount_tables", lambda: iter([there]))
    trace = Trace(
        sandbox_id="ef" * 32, agent_id="a", agent_uid="u", generation=1, layers=(layer, f"{layer}-init"), volumes=()
    )
    left, tables = Remains(Daemon(), Path("/nowhere"))._mounts(trace)  # what is looked for
    assert (left, tables) == ([name] if name else [], 1)
