"""What the worker notes of each container that has a way out: whose it is and what it may reach."""

import logging
import os
import threading
from collections.abc import Mapping
from pathlib import Path

from pydantic import Field, ValidationError

from activities.errors import SandboxUnavailable
from activities.ports.egress import Tenant
from hibernaut.models import Network, SecretSpec
from hibernaut.models.base import Open

_log = logging.getLogger(__name__)


class Entry(Open):
    """The note of one container."""

    tenant: Tenant
    network: Network
    number: int = 0
    """Counts changes of the rules."""
    secrets: Mapping[str, SecretSpec] = Field(default_factory=dict)
    """Names and hosts; a value is in no note."""


class Notes:
    """A file for each container, in a folder that is made when it is needed."""

    def __init__(self, folder: Path) -> None:
        """Use the folder for egress of this host."""
        self._folder = folder
        self._notes = folder / "doors"

    def make(self) -> None:
        """Make the folders."""
        # Of a path with parents only the last would be given the mode.
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._notes.mkdir(exist_ok=True, mode=0o700)

    def write(self, entry: Entry) -> None:
        """Note it, whole or not at all; SandboxUnavailable when that is not possible."""
        path = self._path(entry.tenant.sandbox_id)
        try:
            self.make()
            partial = path.with_suffix(f".{os.getpid()}-{threading.get_ident()}")
            partial.write_text(entry.model_dump_json(), encoding="utf-8")
            partial.replace(path)
        except OSError as error:
            raise SandboxUnavailable(f"the network rules cannot be noted in {self._notes}: {error}") from error

    def read(self, sandbox_id: str) -> Entry | None:
        """The note of a container; none when there is none that can be read."""
        try:
            return Entry.model_validate_json(self._path(sandbox_id).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except (OSError, ValidationError) as error:
            _log.warning("the network rules of %s cannot be read: %s", sandbox_id[:12], error)
            return None

    def has(self, sandbox_id: str) -> bool:
        """Whether there is one."""
        return self._path(sandbox_id).exists()

    def remove(self, sandbox_id: str) -> None:
        """Forget a container."""
        self._path(sandbox_id).unlink(missing_ok=True)

    def every(self) -> list[str]:
        """The containers that are noted."""
        try:
            return [path.stem for path in self._notes.iterdir() if path.suffix == ".json"]
        except OSError:
            return []

    def _path(self, sandbox_id: str) -> Path:
        return self._notes / f"{sandbox_id}.json"
