"""The peers that are programs: restic, borg, tar with zstd, and Docker's own commit and save.

The first three back up the container's upper directory as an operator of the host would, without freezing it, and
restore into that of a container that is not started yet: their fastest way.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.snapshot_process import Ended, clean_environment, timed
from benchmarks.snapshot_subjects import SizeOf, Taken

if TYPE_CHECKING:
    from benchmarks.snapshot_boxes import BenchBoxes
    from tests.support.boxes import Box

_ZSTD = ("zstd", "-q", "-1", "-T0")


class Program:
    """What the programs have in common: a folder of their own, the container, and how it comes back."""

    name = ""

    def __init__(self, boxes: BenchBoxes, box: Box, folder: Path, environment: Mapping[str, str]) -> None:
        """Back up this container; everything that is written on this host goes to the folder."""
        self._boxes, self._box = boxes, box
        self._folder = folder / self.name
        self._folder.mkdir()
        self._source = boxes.upper(box.id)
        self._environment = clean_environment(environment)
        self._round = 0
        self._peak = 0
        self._stored = 0

    @property
    def _here(self) -> Path:
        """The store of this round."""
        return self._folder / f"store-{self._round}"

    def _run(self, *argv: str, cwd: Path | None = None) -> Ended:
        ended = timed(argv, self._folder / "last.log", self._environment, cwd)
        self._peak = max(self._peak, ended.peak)
        return ended

    def peak(self) -> int:
        """Bytes that were resident in one of its processes at once, at most."""
        return self._peak

    def _next(self) -> None:
        shutil.rmtree(self._here, ignore_errors=True)
        self._round += 1
        self._stored = 0

    def _taken(self, ended: Ended) -> Taken:
        """What a snapshot took, and added to the store."""
        before, self._stored = self._stored, self.stored()
        return Taken(ended.seconds, self._stored - before)

    def restore(self) -> float:
        """See `Subject.restore`."""
        began = time.perf_counter()
        copy = self._boxes.create()
        self._fill(self._boxes.upper(copy))
        box = self._boxes.start(copy)
        box.run(["true"])
        seconds = time.perf_counter() - began
        self._boxes.check(box)
        self._boxes.discard(copy)
        return seconds

    def _fill(self, target: Path) -> None:
        raise NotImplementedError

    def stored(self) -> int:
        """See `Subject.stored`."""
        files = (path.lstat() for path in self._here.rglob("*") if path.is_file())
        return sum(status.st_size for status in files)


class Restic(Program):
    """restic, encrypted as it always is, compressed as is its default."""

    def __init__(
        self,
        boxes: BenchBoxes,
        box: Box,
        folder: Path,
        environment: Mapping[str, str],
        *,
        s3: str | None = None,
        sizes: SizeOf | None = None,
        name: str | None = None,
    ) -> None:
        """Keep repositories below `s3` (`http://host:port/bucket/prefix`), or in the folder."""
        self.name = name or ("restic" if s3 else "restic_local")
        super().__init__(boxes, box, folder, {**environment, "RESTIC_PASSWORD": "bench"})
        self._s3, self._sizes = s3, sizes

    def fresh(self) -> None:
        """See `Subject.fresh`."""
        self._next()
        place = f"s3:{self._s3}/{self._round}" if self._s3 else str(self._here)
        self._environment |= {"RESTIC_REPOSITORY": place, "RESTIC_CACHE_DIR": str(self._folder / "cache")}
        self._run("restic", "init", "--quiet", "--repository-version", "2")

    def take(self) -> Taken:
        """See `Subject.take`."""
        return self._taken(self._run("restic", "backup", "--quiet", ".", cwd=self._source))

    def _fill(self, target: Path) -> None:
        self._run("restic", "restore", "--quiet", "latest", "--target", str(target))

    def stored(self) -> int:
        """See `Subject.stored`."""
        if self._s3 is not None and self._sizes is not None:
            bucket = self._s3.split("/", 3)[3]
            return self._sizes(f"s3://{bucket}/{self._round}")
        return super().stored()


class Borg(Program):
    """borg, unencrypted, compressed as is its default (lz4), to a local folder: it has no S3."""

    name = "borg"

    def fresh(self) -> None:
        """See `Subject.fresh`."""
        self._next()
        self._environment |= {
            "BORG_BASE_DIR": str(self._folder / "base"),
            "BORG_REPO": str(self._here),
            "BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK": "yes",
        }
        self._archive = ""
        self._run("borg", "init", "--encryption", "none")

    def take(self) -> Taken:
        """See `Subject.take`."""
        self._archive = f"::{time.time_ns()}"
        return self._taken(self._run("borg", "create", self._archive, ".", cwd=self._source))

    def _fill(self, target: Path) -> None:
        self._run("borg", "extract", self._archive, cwd=target)


class Tar(Program):
    """tar piped to zstd, everything each time."""

    name = "tar_zstd"

    def fresh(self) -> None:
        """See `Subject.fresh`."""
        self._next()
        self._here.mkdir()

    def take(self) -> Taken:
        """See `Subject.take`."""
        file = self._here / "all.tar.zst"
        script = 'tar --create --xattrs --acls --numeric-owner --directory "$1" . | "${@:3}" -f -o "$2"'
        ended = self._run("bash", "-o", "pipefail", "-c", script, "-", str(self._source), str(file), *_ZSTD)
        return Taken(ended.seconds, file.stat().st_size)

    def _fill(self, target: Path) -> None:
        script = 'zstd -q -d -c "$2" | tar --extract --xattrs "--xattrs-include=*" --acls --directory "$1"'
        self._run("bash", "-o", "pipefail", "-c", script, "-", str(target), str(self._here / "all.tar.zst"))


class DockerCommit(Program):
    """`docker commit` without a pause, and `docker save` to a file: base image and all, each time."""

    name = "docker_commit_save"
    _piped = False

    def fresh(self) -> None:
        """See `Subject.fresh`."""
        self._next()
        self._here.mkdir()

    def take(self) -> Taken:
        """See `Subject.take`."""
        tag, file = f"hibernaut-bench:{self.name.replace('_', '-')}", self._here / "image.tar"
        began = time.perf_counter()
        self._run("docker", "commit", "--pause=false", self._box.id, tag)
        if self._piped:
            self._run(
                "bash", "-o", "pipefail", "-c", 'docker save "$1" | "${@:3}" -f -o "$2"', "-", tag, str(file), *_ZSTD
            )
        else:
            self._run("docker", "save", "--output", str(file), tag)
        seconds = time.perf_counter() - began
        # What is left in the daemon is no part of what was stored.
        self._run("docker", "image", "rm", tag)
        return Taken(seconds, file.stat().st_size)

    def restore(self) -> float:
        """See `Subject.restore`."""
        tag, file = f"hibernaut-bench:{self.name.replace('_', '-')}", self._here / "image.tar"
        began = time.perf_counter()
        self._run("docker", "load", "--quiet", "--input", str(file))
        copy = self._boxes.create(tag)
        box = self._boxes.start(copy)
        box.run(["true"])
        seconds = time.perf_counter() - began
        self._boxes.check(box)
        self._boxes.remove(box)
        self._run("docker", "image", "rm", tag)
        return seconds


class DockerCommitZstd(DockerCommit):
    """The same, piped to zstd."""

    name = "docker_commit_save_zstd"
    _piped = True


def settle() -> None:
    """Wait until what others wrote is on disk: nobody pays for it but who wrote it."""
    os.sync()
