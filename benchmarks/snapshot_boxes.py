"""Containers for the benchmark of snapshots: those of the tests, which can be made without being started too."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from docker.errors import APIError

from benchmarks.snapshot_workload import ROOT
from hibernaut.models.isolation import CAPABILITIES
from tests.support.boxes import IMAGE, LABEL, Box, Boxes
from tests.support.dockerd import SecondDockerd


@contextmanager
def own_dockerd(folder: Path) -> Generator[None]:
    """Let everything here, and every program started here, use a Docker daemon that nobody else does."""
    before = os.environ.get("DOCKER_HOST")
    with asyncio.Runner() as runner:
        daemon = SecondDockerd(folder)
        runner.run(daemon.__aenter__())
        try:
            runner.run(daemon.load(IMAGE))
            os.environ["DOCKER_HOST"] = daemon.host
            yield
        finally:
            os.environ.pop("DOCKER_HOST", None)
            if before is not None:
                os.environ["DOCKER_HOST"] = before
            runner.run(daemon.__aexit__(None, None, None))


class BenchBoxes(Boxes):
    """Makes containers, and removes all it made."""

    expected = ""
    """What `seen` said of the container that snapshots are taken of."""

    def create(self, image: str = IMAGE) -> str:
        """Make a container and do not start it: a peer may write its files first."""
        api = self.daemon.api
        host = api.create_host_config(
            network_mode="none",
            cap_drop=["ALL"],
            cap_add=list(CAPABILITIES),
            security_opt=["no-new-privileges"],
            init=True,
            runtime="runc",
        )
        created = api.create_container(
            image=image,
            entrypoint=["tail", "-f", "/dev/null"],
            volumes=["/run/hibernaut"],
            labels={LABEL: "1"},
            host_config=host,
        )
        self._made.append(created["Id"])
        return str(created["Id"])

    def start(self, container: str) -> Box:
        """Start one that was made."""
        self.daemon.api.start(container)
        return Box(self.daemon, container, "")

    def upper(self, container: str) -> Path:
        """Where the container's changes are on this host."""
        return Path(self.daemon.api.inspect_container(container)["GraphDriver"]["Data"]["UpperDir"])

    def seen(self, box: Box) -> str:
        """What two containers with the same work have in common: paths, files' sizes, the middle of the big one."""
        listing = r"find . -type f -printf '%P %s\n' -o -printf '%P %y\n' | sort | sha256sum"
        middle = "dd if=big.bin bs=1M skip=$(($(stat -c %s big.bin) / 2097152)) count=20 status=none | sha256sum"
        return box.sh(f"cd {ROOT}; {listing}; test ! -e big.bin || {middle}")

    def check(self, box: Box) -> None:
        """See that a restored container holds the work as it was last `seen`.

        Raises:
            RuntimeError: It does not.
        """
        if self.seen(box) != self.expected:
            raise RuntimeError("what was restored is not what was there: its time is no figure")

    def discard(self, container: str) -> None:
        """End one, which is removed when all is over.

        ext4 passes over inodes that were freed in the last minutes, one by one: whoever makes files next pays for it.
        """
        with contextlib.suppress(APIError):
            self.daemon.api.kill(container)
        if container not in self._made:
            self._made.append(container)
