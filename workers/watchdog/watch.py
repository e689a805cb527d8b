"""The watchdog: freezes this host's sandboxes when its lease runs out. The package says why and when."""

import logging
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from threading import Event

from activities.adapters.docker_client import Daemon, translated
from activities.adapters.docker_control import ContainerControl
from activities.adapters.docker_freeze import Freezer
from activities.adapters.docker_sandbox import LABEL_HOST, LABEL_NAMESPACE
from activities.errors import SandboxError, SandboxLost
from activities.host_notes import note_box
from activities.ports.audit import HostAudit
from activities.ports.sandbox import Owned
from workers.watchdog.folder import HostFolder, HostLease, since_boot

INTERVAL_S = 0.5
"""Seconds between two looks."""
AT_ONCE = 16
"""Containers frozen at the same time."""
FREEZE_TRIES = 3
SETTLED_LEASES = 1.4
"""Leases after the newest contact from which on nothing of a frozen sandbox runs, not even for a moment."""
LONG_SILENCE_S = 60.0
"""Seconds without a worker and without a container after which a watchdog that a worker started ends by itself."""
GIVE_UP_S = 3600.0
"""Seconds without a worker after which such a watchdog no longer waits for a Docker daemon that does not answer."""

log = logging.getLogger("workers.watchdog")


class Watchdog:
    """Blocking: it is the whole of its process."""

    def __init__(self, folder: HostFolder, daemon: Daemon, host_id: str, audit: HostAudit | None = None) -> None:
        """Watch over this host's containers on this daemon."""
        self._audit = audit
        self._folder = folder
        self._daemon = daemon
        self._host_id = host_id
        self._lease: HostLease | None = None
        self._freezer = Freezer(daemon)
        self._failures: Counter[str] = Counter()
        self._cut_off = False
        self._began = since_boot()
        self._pool = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="freeze")

    def run(self, stop: Event, *, stays: bool) -> None:
        """Watch until told to stop.

        Args:
            stop: Ends the watch; nothing is frozen or thawed for that.
            stays: Whether to go on when there is nobody and nothing to watch.
        """
        while not stop.is_set():
            try:
                self.check()
                if not stays and self._idle():
                    log.info("no worker and no sandbox: the watchdog of host %s ends", self._host_id)
                    return
            except SandboxError as error:
                if self._lease is not None and self._lease.age > GIVE_UP_S and not stays:
                    log.warning("no worker and no Docker daemon for long: the watchdog of host %s ends", self._host_id)
                    return
                log.warning("the sandboxes of host %s cannot be frozen: %s", self._host_id, error)
            stop.wait(INTERVAL_S)

    def check(self) -> None:
        """Look once, and freeze what runs if the lease is good no more.

        Raises:
            SandboxError: The daemon does not answer, or refuses.
        """
        # A lease that was lost from disk goes on running out.
        self._lease = lease = self._folder.lease() or self._lease
        if lease is None:
            return
        if not lease.expired:
            if self._cut_off:
                log.info("host %s is in contact with Temporal again", self._host_id)
            self._cut_off = False
            self._failures.clear()
            return
        owned = self._control(lease).owned()
        if not self._cut_off:
            log.warning(
                "host %s had no contact with Temporal for %.1f s: %d sandboxes are frozen",
                self._host_id, lease.age, sum(box.running for box in owned),
            )  # fmt: skip
        self._cut_off = True
        frozen = self._pool.map(self._freeze, (box for box in owned if box.running))
        # Once all of them are frozen, and only while no other host can have taken over.
        list(self._pool.map(partial(self._settle, lease), [box for box in frozen if box is not None]))

    def _control(self, lease: HostLease) -> ContainerControl:
        return ContainerControl(self._daemon, {LABEL_HOST: self._host_id, LABEL_NAMESPACE: lease.namespace_id})

    def _freeze(self, box: Owned) -> Owned | None:
        """Freeze one, and return it; one that is frozen for a snapshot's sake is marked, so that it stays so."""
        self._folder.mark(box.sandbox_id)
        if box.paused:
            return None
        try:
            self._freezer.freeze(box.sandbox_id)
        except SandboxLost:
            self._folder.release(box.sandbox_id)
            return None
        except SandboxError as error:
            self._failures[box.sandbox_id] += 1
            log.warning("%s could not be frozen: %s", box.sandbox_id[:12], error)
            if self._failures[box.sandbox_id] >= FREEZE_TRIES:
                self._kill(box)
            return None
        # Once more: a worker that had just let it go on may have released the mark meanwhile.
        self._folder.mark(box.sandbox_id)
        log.info("froze %s of agent %s, generation %d", box.sandbox_id[:12], box.agent_id, box.generation)
        self._note("sandbox.frozen", box)
        return box

    def _settle(self, lease: HostLease, box: Owned) -> None:
        """A command that was just starting is let start, lest the daemon neither tell of the sandbox nor thaw it."""
        if self._folder.held.is_held(box.sandbox_id):
            # A snapshot began to read it at the same time: nothing may run before it has been read.
            return
        self._freezer.settle(box.sandbox_id, max(0.0, SETTLED_LEASES * lease.seconds - lease.age))

    def _kill(self, box: Owned) -> None:
        """A sandbox must not run beside the next generation, whatever that costs it."""
        try:
            with translated():
                self._daemon.api.kill(box.sandbox_id)
            log.warning("killed %s, which could not be frozen", box.sandbox_id[:12])
            self._note("sandbox.killed", box)
        except SandboxError as error:
            log.warning("%s could not be killed: %s", box.sandbox_id[:12], error)

    def _note(self, kind: str, box: Owned) -> None:
        """For the host's audit chain. It is done already: a full disk must not keep the others running."""
        try:
            if self._audit is not None:
                note_box(self._audit, kind, box, reason="no contact with Temporal")
        except OSError as error:
            log.warning("%s of %s cannot be noted for the audit: %s", kind, box.sandbox_id[:12], error)

    def _idle(self) -> bool:
        """Whether there is nobody to watch for, and nothing to watch over."""
        lease = self._lease
        if not self._folder.path.exists():
            return True
        if lease is None:
            return since_boot() - self._began > LONG_SILENCE_S
        return (lease.stopped or lease.age > LONG_SILENCE_S) and not self._control(lease).owned()
