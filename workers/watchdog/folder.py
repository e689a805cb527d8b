"""What a host's worker and its watchdog share: a folder in the host's home."""

import contextlib
import json
import os
import re
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

from activities.adapters.holds import Holds

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_CONTAINER_ID = re.compile(r"[0-9a-f]{12,64}")


def since_boot() -> float:
    """Seconds since the machine was started, suspended time included: no setting of the clock changes it."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def boot_id() -> str:
    """Tells one start of the machine from another; processes of one machine agree on it."""
    return _BOOT_ID.read_text(encoding="ascii").strip()


@dataclass(frozen=True, slots=True, kw_only=True)
class HostLease:
    """The newest proof that a host was in contact with Temporal."""

    seconds: float
    """How long it is good for."""
    contact: float
    """When contact was asked for, by `since_boot`."""
    boot: str
    namespace_id: str
    """Of the Temporal namespace whose agents' containers are meant."""
    pid: int
    """The worker."""
    stopped: bool = False
    """Whether that worker has ended in good order."""

    @property
    def age(self) -> float:
        """Seconds since contact; without end when the machine was started anew."""
        return since_boot() - self.contact if self.boot == boot_id() else float("inf")

    @property
    def expired(self) -> bool:
        """Whether it is good no more."""
        return self.age > self.seconds

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """From the file's text; None when it is none."""
        try:
            return cls(**json.loads(text))
        except (ValueError, TypeError):
            return None


class HostFolder:
    """`hosts/<host id>` in the home: the lease, the marks of frozen containers, the watchdog's lock and log.

    Beside them, in `held`, is noted what is frozen for a moment only.

    Implements `FrozenMarks`: a mark is a file of its own, so that two processes may set and release them.
    """

    def __init__(self, home: Path, host_id: str) -> None:
        """Name it; nothing is made before something is written."""
        self.path = home / "hosts" / host_id
        self.lock = self.path / "watchdog.lock"
        self.log = self.path / "watchdog.log"
        self.held = Holds(self.path / "held")
        self._lease = self.path / "lease.json"
        self._frozen = self.path / "frozen"

    def make(self) -> None:
        """Make the folder."""
        self._frozen.mkdir(parents=True, exist_ok=True, mode=0o700)

    def lease(self) -> HostLease | None:
        """The newest proof of contact; None when there never was one."""
        try:
            return HostLease.parse(self._lease.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None

    def renew(self, lease: HostLease) -> None:
        """Keep a proof of contact, whole or not at all; an older one than is kept changes nothing."""
        kept = self.lease()
        if kept is not None and kept.boot == lease.boot and kept.contact > lease.contact:
            return
        partial = self._lease.with_name(f"lease.{os.getpid()}")
        partial.write_text(json.dumps(asdict(lease)), encoding="utf-8")
        partial.replace(self._lease)

    def mark(self, container_id: str) -> None:
        """Note that a container is frozen until its agent claims it."""
        with contextlib.suppress(FileExistsError):
            self._mark(container_id).touch(exist_ok=False)

    def holds(self, container_id: str) -> bool:
        """See `FrozenMarks.holds`."""
        return self._mark(container_id).exists()

    def release(self, container_id: str) -> None:
        """See `FrozenMarks.release`."""
        self._mark(container_id).unlink(missing_ok=True)

    def marked(self) -> frozenset[str]:
        """The containers that are frozen until their agents claim them."""
        try:
            return frozenset(path.name for path in self._frozen.iterdir())
        except FileNotFoundError:
            return frozenset()

    def _mark(self, container_id: str) -> Path:
        if not _CONTAINER_ID.fullmatch(container_id):
            raise ValueError(f"{container_id!r} is no container id")
        return self._frozen / container_id
