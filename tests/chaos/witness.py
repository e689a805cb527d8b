"""Sees what commands do, from outside: the ledgers in the files of every container of an agent."""

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

from activities.adapters.docker_sandbox import LABEL_UID
from tests.chaos.errand import LEDGER

_PAUSE_S = 0.05


class Witness:
    """Reads the ledgers on the host while the agent works; what it has seen is not lost with a container."""

    def __init__(self, apis: Sequence[Any], uid: str) -> None:
        self._apis = apis
        self._uid = uid
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
            # A daemon that is down hides which containers there are, and not their files.
            for api in self._apis:
                with contextlib.suppress(Exception):
                    await asyncio.to_thread(self._find, api)
            self.look()
            await asyncio.sleep(_PAUSE_S)

    def _find(self, api: Any) -> None:  # noqa: ANN401  # docker-py's low-level API is untyped
        for found in api.containers(all=True, filters={"label": f"{LABEL_UID}={self._uid}"}):
            container = str(found["Id"])
            if container not in self._folders:
                data = api.inspect_container(container)["GraphDriver"]["Data"]
                self._folders[container] = Path(data["UpperDir"])

    def look(self) -> None:
        """Read every ledger that is there."""
        for folder in self._folders.values():
            with contextlib.suppress(OSError):
                for line in (folder / LEDGER.lstrip("/")).read_text(errors="replace").splitlines():
                    label, _, number = line.partition(" ")
                    if number:
                        self._runs[label].add(number)
