"""Values of secrets from a YAML file, a folder of files and the worker's environment, read anew each time."""

import os
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, cast

from activities import yaml_file
from activities.errors import SandboxRefused, SandboxUnavailable
from activities.ports.secrets import MAX_VALUE, MIN_VALUE

FILE = "HIBERNAUT_SECRETS_FILE"
FOLDER = "HIBERNAUT_SECRETS_DIR"
PREFIX = "HIBERNAUT_SECRET_"
"""Of variables: what follows is the secret's name."""
AGENTS = ".agents"
"""In a folder, what the name of the file with the patterns of agents ends with."""

_PRINTABLE = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?")


@dataclass(frozen=True, slots=True)
class _Found:
    value: str = field(repr=False)
    where: str
    agents: tuple[str, ...] | None = None
    """Patterns of the agents that may have it; None: any."""


class SecretValues:
    """Implements the port `SecretSource`."""

    def __init__(
        self, file: Path | None = None, folder: Path | None = None, environ: Mapping[str, str] | None = None
    ) -> None:
        """Look into a file, then a folder, then an environment; the first that has a name counts."""
        self._file = file
        self._folder = folder
        self._environ: Mapping[str, str] = {} if environ is None else environ

    @classmethod
    def of(cls, environ: Mapping[str, str] = os.environ) -> "SecretValues":
        """What a worker's environment names."""
        file, folder = environ.get(FILE), environ.get(FOLDER)
        return cls(Path(file) if file else None, Path(folder) if folder else None, environ)

    def values(self, names: Iterable[str], agent_id: str | None = None) -> dict[str, str]:
        """See the port."""
        wanted = tuple(names)
        if not wanted:
            return {}
        try:
            listed = self._listed()
            found = {name: listed.get(name) or self._lone(name) for name in wanted}
        except (OSError, ValueError) as error:
            # A file that is just being replaced, it may be.
            raise SandboxUnavailable(f"the values of secrets cannot be read: {error}") from None
        values: dict[str, str] = {}
        for name, one in found.items():
            if one is None:
                raise SandboxRefused(
                    f"the secret {name} has no value on this host: set {PREFIX}{name} for its worker, or put {name} "
                    f"into the file of {FILE} or the folder of {FOLDER}; or take it out of sandbox.secrets"
                )
            if agent_id is not None and one.agents is not None and not _named(agent_id, one.agents):
                raise SandboxRefused(
                    f"the secret {name} is not for the agent {agent_id}: "
                    f"add a pattern for it to `agents` in {one.where}"
                )
            if fault := _fault(one.value):
                raise SandboxRefused(f"the value of the secret {name} in {one.where} {fault}")
            values[name] = one.value
        return values

    def known(self) -> Mapping[str, str]:
        """See the port. What cannot be read or used is given to no sandbox, and left out."""
        found: dict[str, _Found] = {}
        for name in self._environ:
            if name.startswith(PREFIX) and (one := self._variable(name.removeprefix(PREFIX))):
                found[name.removeprefix(PREFIX)] = one
        # What cannot be read hides nothing of the rest.
        names: list[str] = []
        with suppress(OSError):
            names += [path.name for path in self._folder.iterdir()] if self._folder is not None else []
        for name in names:
            with suppress(OSError, ValueError):
                if not name.startswith(".") and not name.endswith(AGENTS) and (one := self._held(name)):
                    found[name] = one
        with suppress(OSError, ValueError):
            found |= self._listed()
        return {name: one.value for name, one in found.items() if _fault(one.value) is None}

    def _lone(self, name: str) -> _Found | None:
        return self._held(name) or self._variable(name)

    def _variable(self, name: str) -> _Found | None:
        value = self._environ.get(f"{PREFIX}{name}")
        return _Found(value, f"the variable {PREFIX}{name}") if value else None

    def _held(self, name: str) -> _Found | None:
        if self._folder is None:
            return None
        path = self._folder / name
        if not path.is_file():
            return None
        patterns = self._folder / f"{name}{AGENTS}"
        agents = tuple(patterns.read_text(encoding="utf-8").split()) if patterns.is_file() else None
        return _Found(_text(path), str(path), agents)

    def _listed(self) -> dict[str, _Found]:
        if self._file is None:
            return {}
        data = yaml_file.load(self._file, "file of secrets", FILE)
        if not isinstance(data, dict):
            msg = f"the file of secrets {self._file} ({FILE}) must have names, each with a value"
            raise ValueError(msg)  # noqa: TRY004  # as any other fault of the file
        entries = cast("dict[object, object]", data)
        return {str(name): self._entry(str(name), entry) for name, entry in entries.items()}

    def _entry(self, name: str, entry: object) -> _Found:
        where = f"{self._file} ({FILE})"
        if isinstance(entry, str):
            return _Found(entry, where)
        if isinstance(entry, dict):
            fields = cast("dict[str, Any]", entry)
            value: object = fields.get("value")
            agents: object = fields.get("agents")
            patterns = cast("list[object]", agents) if isinstance(agents, list) else None
            if (
                isinstance(value, str)
                and fields.keys() <= {"value", "agents"}
                and (agents is None) == (patterns is None)
            ):
                return _Found(value, where, None if patterns is None else tuple(map(str, patterns)))
        raise ValueError(
            f"{name} in {where} must be a text, or have `value` (a text) and perhaps `agents` (a list of patterns)"
        )


def _text(path: Path) -> str:
    """What is in a file, without the line's end that editors leave."""
    with path.open("rb") as file:
        content = file.read(MAX_VALUE + 3)
    return content.decode("latin-1").removesuffix("\n").removesuffix("\r")


def _named(agent_id: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(agent_id, pattern) for pattern in patterns)


def _fault(value: str) -> str | None:
    if len(value) < MIN_VALUE:
        return f"has fewer than {MIN_VALUE} characters: so short a text would be found where it is not meant"
    if len(value) > MAX_VALUE:
        return f"has more than {MAX_VALUE} characters"
    if _PRINTABLE.fullmatch(value) is None:
        return (
            "must be printable ASCII without control characters, line breaks, or spaces at its ends: it goes into "
            "headers"
        )
    return None
