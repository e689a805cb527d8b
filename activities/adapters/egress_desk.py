"""Opens and closes the ways out of a host's sandboxes: what the worker does for the egress proxy.

The worker, which is root, makes the listener in the container's network namespace and hands it over; the proxy has no
right to do that itself. What is open is noted in a file for each container, so that a proxy that died is given all of
them again.
"""

import contextlib
import logging
import select
import socket
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from activities.adapters import egress_wire as wire
from activities.adapters.docker_client import Daemon, translated
from activities.adapters.egress_notes import Entry, Notes
from activities.adapters.egress_process import check_possible, elsewhere, is_of
from activities.adapters.egress_secrets import EgressSecrets, Redaction
from activities.adapters.netns import PortTaken, Process, listen_inside
from activities.adapters.trust import plant
from activities.errors import SandboxLost, SandboxRefused, SandboxUnavailable
from activities.ports.egress import PROXY_PORT, Tenant
from activities.ports.secrets import Grant, SecretSource
from hibernaut.models import Network, SecretSpec
from hibernaut.models.network_change import NetworkReport

PATIENCE_S = 20.0
"""Seconds a proxy that is started may take to answer."""
LAUNCH_S = 5.0
"""Seconds between two attempts to start it."""
PAUSE_S = 0.05

_log = logging.getLogger(__name__)


class EgressDesk:
    """Implements the port `Egress`; for threads."""

    def __init__(
        self,
        folder: Path,
        daemon: Daemon,
        launch: Callable[[], None],
        release: str,
        secrets: SecretSource | None = None,
    ) -> None:
        """Use this host's folder for egress.

        Args:
            folder: Made when it is needed.
            daemon: The containers' daemon.
            launch: Starts a proxy that outlives this process; called again while none answers.
            release: Which build of the proxy is wanted: another one is replaced when the first call finds it.
            secrets: Has the values of secrets.
        """
        self._secrets = EgressSecrets(secrets)
        self._folder = folder
        self._notes = Notes(folder)
        self._daemon = daemon
        self._launch = launch
        self._release = release
        self._known = False
        self._complained: set[str] = set()
        self._lock = threading.Lock()

    def check(self, runtime: str, secrets: Iterable[str] = (), agent_id: str | None = None) -> None:
        """See the port."""
        self._secrets.source.values(secrets, agent_id)
        check_possible(self._daemon, runtime)

    def admit(
        self, tenant: Tenant, network: Network, number: int = 0, secrets: Mapping[str, SecretSpec] | None = None
    ) -> None:
        """See the port."""
        with self._lock:
            noted = self._notes.read(tenant.sandbox_id)
            if noted is None and secrets is None and self._notes.has(tenant.sandbox_id):
                # Written anew it would have no secrets, and nobody would look for their values.
                raise SandboxUnavailable(f"the note of {tenant.sandbox_id[:12]} in {self._folder} cannot be read")
            if noted is None or noted.number <= number:
                kept = noted.secrets if noted is not None and secrets is None else secrets or {}
                self._notes.write(Entry(tenant=tenant, network=network, number=number, secrets=kept))
            self._open(tenant.sandbox_id)

    def readmit(self, sandbox_id: str) -> None:
        """See the port."""
        try:
            with self._lock:
                self._open(sandbox_id)
        except (SandboxUnavailable, SandboxLost, SandboxRefused) as error:
            # `reconcile` goes on trying.
            _log.warning("%s has no way out yet: %s", sandbox_id[:12], error)

    def dismiss(self, sandbox_id: str) -> None:
        """See the port."""
        with self._lock:
            if not self._notes.has(sandbox_id):
                return
            self._notes.remove(sandbox_id)
            self._secrets.forget(sandbox_id)
            with contextlib.suppress(OSError, ValueError):
                wire.ask(self._folder, wire.Request(op="close", sandbox_id=sandbox_id))

    def blocked(self, sandbox_id: str, since: float) -> tuple[str, ...]:
        """See the port."""
        if not self._notes.has(sandbox_id):
            return ()
        try:
            return wire.ask(self._folder, wire.Request(op="blocked", sandbox_id=sandbox_id, since=since)).blocked
        except (OSError, ValueError):
            return ()

    def report(self, sandbox_id: str, mark: str) -> NetworkReport:
        """See the port."""
        if not self._notes.has(sandbox_id):
            return NetworkReport(mark=mark)
        found = None
        with contextlib.suppress(OSError, ValueError):
            found = wire.ask(self._folder, wire.Request(op="report", sandbox_id=sandbox_id, mark=mark)).report
        return found or NetworkReport(mark=mark)

    def redaction(self, sandbox_id: str) -> Redaction | None:
        """See the port."""
        entry = self._notes.read(sandbox_id)
        if entry is None:
            return self._secrets.all(sandbox_id) if self._notes.has(sandbox_id) else None
        if entry.secrets and not self._secrets.knows(sandbox_id):
            # It was opened by a worker before this one, perhaps with values that are no more to be had.
            with contextlib.suppress(OSError, ValueError):
                found = wire.ask(self._folder, wire.Request(op="given", sandbox_id=sandbox_id)).given
                self._secrets.given(sandbox_id, ((one.name, one.value) for one in found or ()))
        return self._secrets.redaction(sandbox_id, entry.secrets) if entry.secrets else None

    def reconcile(self) -> None:
        """Give the proxy what it should have: after it died, after containers were restarted or removed by others.

        Raises:
            SandboxUnavailable: Neither it nor one that was started answers, or Docker does not.
        """
        noted = self._notes.every()
        if not noted:
            return
        served = self._ask(wire.Request(op="list")).doors or {}
        for sandbox_id in noted:
            if sandbox_id in served:
                continue
            try:
                with self._lock:
                    self._open(sandbox_id)
            except SandboxLost:
                self._forget_removed(sandbox_id)
            except (SandboxUnavailable, SandboxRefused) as error:
                # Its own doing, it may be: the others' ways out do not wait for it.
                if sandbox_id not in self._complained:
                    self._complained.add(sandbox_id)
                    _log.warning("%s has no way out: %s", sandbox_id[:12], error)
            else:
                self._complained.discard(sandbox_id)
        for sandbox_id in served.keys() - set(noted):
            with self._lock:
                # It may have been noted, and opened, since.
                if not self._notes.has(sandbox_id):
                    self._ask(wire.Request(op="close", sandbox_id=sandbox_id))

    def _forget_removed(self, sandbox_id: str) -> None:
        try:
            with translated():
                self._daemon.api.inspect_container(sandbox_id)
        except SandboxLost:
            self.dismiss(sandbox_id)

    def _open(self, sandbox_id: str) -> None:
        """See to it that a container has its way out, with the rules that are noted; nothing when none are."""
        entry = self._notes.read(sandbox_id)
        if entry is None:
            return
        process, started_at = self._process(sandbox_id)
        try:
            if self._serves(entry, started_at):
                return
            grants = self._granted(entry)
            try:
                listener = self._listener(process, sandbox_id)
            except PortTaken as error:
                # Another worker of this host may have been quicker.
                if self._serves(entry, started_at):
                    return
                raise SandboxUnavailable(
                    f"something in {sandbox_id[:12]} listens on port {PROXY_PORT} itself"
                ) from error
            with listener:
                request = wire.Request(
                    op="open",
                    tenant=entry.tenant,
                    network=entry.network,
                    number=entry.number,
                    started_at=started_at,
                    secrets=grants,
                )
                self._ask(request, (listener.fileno(), process.fd))
        finally:
            process.close()

    def _granted(self, entry: Entry) -> tuple[Grant, ...]:
        """The values for the proxy, which the container trusts by then."""
        if not entry.secrets:
            return ()
        grants = self._secrets.grants(entry.tenant, entry.secrets)
        request = wire.Request(op="authority", sandbox_id=entry.tenant.sandbox_id)
        plant(self._daemon, request.sandbox_id, self._ask(request).authority)
        return grants

    def _serves(self, entry: Entry, started_at: str) -> bool:
        """Whether the proxy serves this start of the container; with these rules, then."""
        sandbox_id = entry.tenant.sandbox_id
        found = self._ask(wire.Request(op="list"))
        if (found.doors or {}).get(sandbox_id) != started_at:
            return False
        if (found.numbers or {}).get(sandbox_id, 0) < entry.number:
            change = wire.Request(op="change", sandbox_id=sandbox_id, network=entry.network, number=entry.number)
            return (self._ask(change).numbers or {}).get(sandbox_id, -1) >= entry.number
        return True

    def _listener(self, process: Process, sandbox_id: str) -> socket.socket:
        try:
            made = listen_inside(process, PROXY_PORT)
        except OSError as error:
            raise SandboxUnavailable(
                f"the network namespace of {sandbox_id[:12]} cannot be entered ({error}); the worker has to run as "
                "root on the Docker daemon's host, in its process namespace"
            ) from error
        if select.select([process.fd], [], [], 0)[0]:
            made.close()
            raise SandboxLost(f"the container {sandbox_id[:12]} ended")
        return made

    def _process(self, sandbox_id: str) -> tuple[Process, str]:
        """The container's first process, and when it was started; SandboxLost when there is none."""
        with translated():
            state: dict[str, Any] = self._daemon.api.inspect_container(sandbox_id)["State"]
        pid = int(state.get("Pid") or 0)
        if not state.get("Running") or pid == 0:
            raise SandboxLost(f"the container {sandbox_id[:12]} does not run")
        try:
            process = Process.hold(pid)
        except OSError as error:
            raise SandboxUnavailable(elsewhere(sandbox_id)) from error
        # A daemon elsewhere, or in another process namespace, means another process by the number.
        if not is_of(pid, sandbox_id):
            process.close()
            raise SandboxUnavailable(elsewhere(sandbox_id))
        return process, str(state.get("StartedAt") or "")

    def _ask(self, request: wire.Request, descriptors: tuple[int, ...] = ()) -> wire.Reply:
        """Ask the proxy, starting one if need be.

        Raises:
            SandboxUnavailable: None answers, or it refuses.
        """
        deadline = time.monotonic() + PATIENCE_S
        launched = 0.0
        while True:
            try:
                self._replace_another_release()
                reply = wire.ask(self._folder, request, descriptors)
            except (OSError, ValueError) as error:
                if time.monotonic() > deadline:
                    raise SandboxUnavailable(
                        f"the egress proxy of this host does not answer ({error}); its log is in {self._folder}"
                    ) from error
                if time.monotonic() - launched > LAUNCH_S:
                    launched = time.monotonic()
                    self._notes.make()
                    self._launch()
                time.sleep(PAUSE_S)
                continue
            if reply.error:
                raise SandboxUnavailable(f"the egress proxy of this host refuses: {reply.error}")
            return reply

    def _replace_another_release(self) -> None:
        if self._known:
            return
        if wire.ask(self._folder, wire.Request(op="hello")).release != self._release:
            _log.info("the egress proxy of this host is of another release: it is replaced")
            wire.ask(self._folder, wire.Request(op="end"))
            raise ConnectionResetError
        self._known = True
