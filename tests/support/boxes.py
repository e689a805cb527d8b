"""Containers for tests: hardened as sandboxes are, and looked at from inside by a program of their own."""

from __future__ import annotations

import base64
import contextlib
import pickle
import subprocess
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from docker.errors import NotFound

from activities.adapters.docker_client import Daemon
from hibernaut.models.isolation import CAPABILITIES

IMAGE = "hibernaut/sandbox:latest"
LABEL = "hibernaut.test"

# Independent of what is under test: the container's own Python walks its own files.
_LOOK = r"""
import hashlib, os, stat
mounts = {os.fsencode(line.split()[4]) for line in open("/proc/self/mountinfo")}
links, found = {}, {}
born = os.lstat("/.dockerenv").st_ctime_ns
def look(path):
    status = os.lstat(path)
    kind = stat.S_IFMT(status.st_mode)
    content = None
    if stat.S_ISREG(status.st_mode):
        # What changed since the container was made has a later ctime: the image's files are not hashed.
        if status.st_ctime_ns >= born:
            with open(path, "rb") as file:
                content = hashlib.file_digest(file, "sha256").hexdigest()
    elif stat.S_ISLNK(status.st_mode):
        content = os.readlink(path)
    elif stat.S_ISCHR(status.st_mode) or stat.S_ISBLK(status.st_mode):
        content = status.st_rdev
    xattrs = {n: os.getxattr(path, n, follow_symlinks=False) for n in os.listxattr(path, follow_symlinks=False)}
    size = 0 if stat.S_ISDIR(kind) else status.st_size
    if status.st_nlink > 1 and not stat.S_ISDIR(kind):
        links.setdefault(status.st_ino, []).append(path)
    holes = stat.S_ISREG(kind) and status.st_blocks * 512 < status.st_size // 2 and status.st_size > 1 << 16
    found[path] = [oct(status.st_mode), status.st_uid, status.st_gid, size, status.st_mtime_ns, content, xattrs, holes]
    if stat.S_ISDIR(kind):
        for name in os.listdir(path):
            below = os.path.join(path, name)
            if below not in mounts:
                look(below)
look(b"/")
for group in links.values():
    for path in group:
        found[path].append(sorted(group))
import pickle, sys
sys.stdout.buffer.write(pickle.dumps(found, 4))
"""

Tree = dict[bytes, list[Any]]


@dataclass(frozen=True, slots=True)
class Box:
    """A running container."""

    daemon: Daemon
    id: str
    image_id: str

    def sh(self, script: str) -> str:
        """Run a shell script as root; fail when it fails."""
        return self.run(["sh", "-euc", script]).decode(errors="surrogateescape")

    def python(self, script: str) -> str:
        """Run a Python program as root; fail when it fails."""
        return self.run(["python3", "-c", script]).decode(errors="surrogateescape")

    def run(self, argv: list[str]) -> bytes:
        """Run a command as root and return its output; fail when it fails."""
        result = self.daemon.client.containers.get(self.id).exec_run(argv, user="0", workdir="/", demux=True)
        output, complaints = result.output
        assert result.exit_code == 0, (argv, result.exit_code, complaints)
        return bytes(output or b"")

    def look(self) -> Tree:
        """Return everything about every path of the root file system, as seen from inside."""
        return pickle.loads(self.run(["python3", "-c", _LOOK]))  # noqa: S301 - written by the lines above

    def put(self, path: str, content: bytes) -> None:
        """Write a file of some kilobytes, from inside: gVisor does not see what a daemon copies in."""
        self.python(f"import base64; open({path!r}, 'wb').write(base64.b64decode({base64.b64encode(content)!r}))")

    def put_tree(self, path: str, tree: Path) -> None:
        """Copy a directory's content into one that exists, by the daemon: no program of the container's runs."""
        with tempfile.TemporaryFile() as file:
            with tarfile.open(fileobj=file, mode="w") as archive:
                archive.add(tree, ".", filter=_as_root)
            file.seek(0)
            assert self.daemon.client.containers.get(self.id).put_archive(path, file)

    def unpack(self, path: str, tree: Path) -> None:
        """Copy a directory's content into one that exists, by the container's own tar."""
        host = ["--host", self.daemon._base_url] if self.daemon._base_url else []
        argv = ["docker", *host, "exec", "--interactive", "--user=0", self.id, "tar", "-x", "-C", path]
        with tempfile.TemporaryFile() as file:
            with tarfile.open(fileobj=file, mode="w") as archive:
                archive.add(tree, ".", filter=_as_root)
            file.seek(0)
            subprocess.run(argv, stdin=file, check=True)

    @property
    def root(self) -> Path:
        """The root file system on this host, as its kernel shows it, without other file systems mounted in it."""
        merged = Path(self.daemon.api.inspect_container(self.id)["GraphDriver"]["Data"]["MergedDir"])
        assert merged.is_mount(), merged
        return merged

    @property
    def is_paused(self) -> bool:
        """Whether it is frozen."""
        return bool(self.daemon.api.inspect_container(self.id)["State"]["Paused"])


class Boxes:
    """Makes boxes, and removes all it made."""

    def __init__(self, daemon: Daemon | None = None, *, runtime: str = "runc") -> None:
        self.daemon = daemon or Daemon()
        self._runtime = runtime
        self._made: list[str] = []

    def make(self, *, image: str = IMAGE, argv: list[str] | None = None, network: str = "none") -> Box:
        """Start a container."""
        api = self.daemon.api
        host = api.create_host_config(
            network_mode=network,
            cap_drop=["ALL"],
            cap_add=list(CAPABILITIES),
            security_opt=["no-new-privileges"],
            init=True,
            runtime=self._runtime,
        )
        created = api.create_container(
            image=image,
            entrypoint=argv or ["tail", "-f", "/dev/null"],
            volumes=["/run/hibernaut"],
            labels={LABEL: "1"},
            host_config=host,
        )
        self._made.append(created["Id"])
        api.start(created["Id"])
        return Box(self.daemon, created["Id"], api.inspect_container(created["Id"])["Image"])

    def remove(self, box: Box) -> None:
        """Remove one."""
        self.daemon.api.remove_container(box.id, v=True, force=True)
        self._made.remove(box.id)

    def close(self) -> None:
        """Remove everything."""
        for made in self._made:
            with contextlib.suppress(NotFound):
                self.daemon.api.remove_container(made, v=True, force=True)
        self.daemon.close()


def _as_root(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    return member


def assert_same_changes(fresh: Tree, source: Tree, copy: Tree) -> None:
    """Fail unless everything that changed between `fresh` and `source` is so in `copy`, and nothing else is there."""
    changed = {path: facts for path, facts in source.items() if fresh.get(path) != facts}
    assert {path: copy.get(path) for path in changed} == changed
    assert set(source) - set(copy) == set()
    assert set(copy) - set(source) == set()
