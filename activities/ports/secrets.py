"""The port to the values of secrets: who has them, and which agent may have which."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from hibernaut.models import SecretSpec

MIN_VALUE = 8
"""Characters: a shorter value would be found in what has nothing to do with it."""
MAX_VALUE = 4_096


@dataclass(frozen=True, slots=True)
class Grant:
    """A secret of one sandbox, with its value: for the proxy's memory, and no other place."""

    name: str
    placeholder: str
    value: str = field(repr=False)
    spec: SecretSpec


class SecretSource(Protocol):
    """Has the values of secrets. All methods block; call them in threads."""

    def values(self, names: Iterable[str], agent_id: str | None = None) -> dict[str, str]:
        """The values of these names, as they are now.

        Args:
            names: All of them are wanted.
            agent_id: Whose sandbox is to use them; None when that is not known yet.

        Raises:
            SandboxRefused: One is not there, cannot be used, or is not for this agent; says how to mend it, and
                no value.
        """
        ...

    def known(self) -> Mapping[str, str]:
        """Every value that can be read, by name; for those who must not show one."""
        ...
