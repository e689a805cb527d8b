"""The audit port of a host: what happened here, for the host's own chain."""

from typing import Protocol

from pydantic import JsonValue


class HostAudit(Protocol):
    """Takes facts into the host's audit chain."""

    def note(self, kind: str, /, **facts: JsonValue) -> None:
        """Keep a fact until it is in the chain. Blocks for a write to disk; call it in a thread.

        Args:
            kind: What happened, such as `sandbox.destroyed`.
            facts: Names, ids, digests and counts. Never content, never a secret.

        Raises:
            OSError: It could not be kept; whoever is about to act on it must not.
        """
        ...
