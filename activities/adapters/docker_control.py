"""Containers as a whole: what state they are in, freezing and thawing, starting again, finding what is ours."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from docker.errors import APIError, NotFound

from activities.adapters.docker_client import Daemon, translated
from activities.adapters.docker_freeze import Freezer
from activities.adapters.docker_sandbox import LABEL_AGENT, LABEL_GENERATION, LABEL_UID
from activities.errors import SandboxUnavailable
from activities.ports.sandbox import ContainerState, Owned


class ContainerControl:
    """All methods block; call them in threads."""

    def __init__(self, daemon: Daemon, home: Mapping[str, str] | None = None) -> None:
        """Use this daemon; a container is ours when it bears the labels of `home`."""
        self._daemon = daemon
        self._freezer = Freezer(daemon)
        self._home = [f"{key}={value}" for key, value in (home or {}).items()]

    def inspect(self, sandbox_id: str) -> ContainerState:
        """What the daemon says of it; SandboxLost when it is gone."""
        with translated():
            found: dict[str, Any] = self._daemon.api.inspect_container(sandbox_id)
        state: dict[str, Any] = found["State"]
        labels: dict[str, str] = found["Config"].get("Labels") or {}
        running = bool(state.get("Running"))
        return ContainerState(
            running=running,
            paused=bool(state.get("Paused")),
            started_at=str(state.get("StartedAt") or ""),
            exit_code=None if running else int(state.get("ExitCode") or 0),
            oom_killed=bool(state.get("OOMKilled")),
            runtime=str(found["HostConfig"].get("Runtime") or ""),
            labels=labels,
        )

    def start(self, sandbox_id: str) -> str:
        """Start it, if it does not run; when it was started."""
        with translated():
            self._daemon.api.start(sandbox_id)
        return self.inspect(sandbox_id).started_at

    def pause(self, sandbox_id: str) -> None:
        """Freeze it."""
        self._freezer.freeze(sandbox_id)

    def unpause(self, sandbox_id: str) -> None:
        """Thaw it, whoever froze it; SandboxLost when it is gone or does not run."""
        self._freezer.thaw(sandbox_id)

    def owned(self) -> list[Owned]:
        """All containers that bear the labels of an agent's sandbox."""
        with translated():
            found: list[dict[str, Any]] = self._daemon.api.containers(
                all=True, filters={"label": [LABEL_UID, *self._home]}
            )
        owned: list[Owned] = []
        for one in found:
            labels: dict[str, str] = one.get("Labels") or {}
            generation = labels.get(LABEL_GENERATION, "")
            # Whoever else uses the label means something else by it.
            if LABEL_AGENT not in labels or not generation.isdecimal():
                continue
            owned.append(
                Owned(
                    sandbox_id=str(one["Id"]),
                    agent_id=labels[LABEL_AGENT],
                    agent_uid=labels[LABEL_UID],
                    generation=int(generation),
                    running=one.get("State") in {"running", "paused", "restarting"},
                    paused=one.get("State") == "paused",
                    created_at=datetime.fromtimestamp(int(one["Created"]), UTC),
                )
            )
        return owned

    def remove(self, sandbox_id: str) -> None:
        """Remove it with its volumes; one that is gone, or going, is no error."""
        with translated():
            try:
                self._daemon.api.remove_container(sandbox_id, v=True, force=True)
            except NotFound:
                return
            except APIError as error:
                if "already in progress" not in str(error.explanation):
                    raise SandboxUnavailable(f"the container cannot be removed: {error.explanation}") from error
