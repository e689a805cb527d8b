"""Sees what commands do, from outside: the ledgers in the files of every container of an agent."""

import asyncio
import contextlib
import http.client
import json
import socket
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote

from activities.adapters.docker_sandbox import LABEL_UID
from tests.chaos.errand import LEDGER

_PAUSE_S = 0.05
_ANSWER_S = 10.0


class Witness:
    """Reads the ledgers on the host while the agent works; what it has seen is not lost with a container."""

    def __init__(self, daemons: Sequence[str], uid: str) -> None:
        """Watch the containers of an agent.

        Args:
            daemons: Docker daemons of this machine, each as DOCKER_HOST names it.
            uid: The agent's.
        """
        self._sockets = [Path(daemon.removeprefix("unix://")) for daemon in daemons]
        self._wanted = quote(json.dumps({"label": [f"{LABEL_UID}={uid}"]}))
        self._folders: dict[str, Path] = {}
        self._runs: dict[str, set[str]] = defaultdict(set)
        self._task: asyncio.Task[None] | None = None

    @property
    def runs(self) -> dict[str, int]:
        """How often each command was run."""
        return {label: len(numbers) for label, numbers in self._runs.items()}

    def ran(self, label: str) -> bool:
        """Whether a command was begun."""
        return label in self._runs

    async def __aenter__(self) -> Self:
        """Watch."""
        self._task = asyncio.create_task(self._watch())
        return self

    async def __aexit__(self, *_: object) -> None:
        """Watch no more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _watch(self) -> None:
        while True:
            for daemon in self._sockets:
                # A daemon that is down hides which containers there are, and not their files.
                with contextlib.suppress(OSError, http.client.HTTPException, LookupError):
                    await asyncio.to_thread(self._find, daemon)
            self.look()
            await asyncio.sleep(_PAUSE_S)

    def _find(self, daemon: Path) -> None:
        for found in _get(daemon, f"/containers/json?all=1&filters={self._wanted}"):
            container = str(found["Id"])
            if container not in self._folders:
                data = _get(daemon, f"/containers/{container}/json")["GraphDriver"]["Data"]
                self._folders[container] = Path(data["UpperDir"])

    def look(self) -> None:
        """Read every ledger that is there."""
        for folder in self._folders.values():
            with contextlib.suppress(OSError):
                for line in (folder / LEDGER.lstrip("/")).read_text(errors="replace").splitlines():
                    label, _, number = line.partition(" ")
                    if number:
                        self._runs[label].add(number)


def _get(daemon: Path, path: str) -> Any:  # noqa: ANN401  # JSON of any shape
    """Ask a Docker daemon. docker-py would leave its socket to the garbage collector when the daemon is down."""
    connection = http.client.HTTPConnection("docker", timeout=_ANSWER_S)
    with socket.socket(socket.AF_UNIX) as connection.sock, contextlib.closing(connection):
        connection.sock.settimeout(_ANSWER_S)
        connection.sock.connect(str(daemon))
        connection.request("GET", path)
        return json.loads(connection.getresponse().read())
