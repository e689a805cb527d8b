"""Chooses how a container's files are reached: beside the daemon where that is possible, else through its API alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from activities.adapters.api_capture import ApiCapture
from activities.adapters.cpu_gate import TRUSTED_RUNTIMES, CpuGate
from activities.adapters.docker_client import translated
from activities.adapters.docker_freeze import Freezer
from activities.adapters.docker_overlay import find_overlay
from activities.adapters.host_capture import HostCapture
from activities.errors import CaptureError, SandboxLost, SandboxUnavailable
from activities.ports.host import FrozenMarks, NoMarks

if TYPE_CHECKING:
    from activities.adapters.docker_client import Daemon
    from activities.adapters.holds import Holds
    from activities.snapshots.capture import Capture


class DockerCaptures:
    """Implements `CaptureFactory` for one Docker daemon."""

    def __init__(
        self,
        daemon: Daemon,
        *,
        kind: Literal["auto", "host", "api"] = "auto",
        marks: FrozenMarks | None = None,
        holds: Holds | None = None,
    ) -> None:
        """Use this daemon; `kind` forces one way, what is marked stays frozen, and what is held still is noted."""
        self._daemon = daemon
        self._marks = marks or NoMarks()
        self._freezer = Freezer(daemon, self._marks, holds)
        self._kind = kind

    def open(self, container_id: str, known: Capture | None) -> Capture:
        """See `CaptureFactory.open`.

        Raises:
            SandboxLost: The container is gone or does not run.
            SandboxUnavailable: It is frozen until its agent claims it.
            CaptureError: Its files cannot be reached in the way that was forced.
        """
        # First of all: of one that was left frozen the daemon may tell nothing before it goes on.
        self._freezer.recover(container_id)
        with translated():
            details: dict[str, Any] = self._daemon.api.inspect_container(container_id)
        state = details["State"]
        if state.get("Paused"):
            if self._marks.holds(container_id):
                msg = f"The container {container_id[:12]} is frozen, since its host was cut off from Temporal."
                raise SandboxUnavailable(msg)
            # Left by somebody who noted nothing.
            self._freezer.reclaim(container_id)
        elif not state.get("Running"):
            msg = f"The container {container_id[:12]} does not run: acquire a sandbox and restore the last snapshot."
            raise SandboxLost(msg)
        overlay = find_overlay(details) if self._kind != "api" else None
        if overlay is not None:
            if isinstance(known, HostCapture) and known.overlay == overlay:
                return known
            trusted = str(details["HostConfig"].get("Runtime") or "") in TRUSTED_RUNTIMES
            return HostCapture(
                self._freezer,
                str(details["Id"]),
                str(details["Image"]),
                overlay,
                cpu=CpuGate.find(overlay.pid) if trusted else None,
                started_at=str(state.get("StartedAt")),
            )
        if self._kind == "host":
            msg = "The container's files cannot be reached on this host: run the worker as root beside the daemon."
            raise CaptureError(msg)
        if isinstance(known, ApiCapture):
            return known
        return ApiCapture(self._daemon, str(details["Id"]), str(details["Image"]))
