"""Audit lines of upkeep: what is about to be removed is written down first, as the sweep of containers does."""

from datetime import UTC, datetime
from typing import Literal

from pydantic import Field

from activities.errors import PreconditionFailed
from activities.ports.store import ObjectStore
from hibernaut.models.base import Open


class UpkeepLine(Open):
    """A line of the audit log, written before the deed."""

    at: datetime = Field(default_factory=lambda: datetime.now(UTC))
    actor: str
    """`operator`: somebody asked for it. `collection`: the schedule, or whoever started the whole collection."""
    run: str
    """Id of the workflow that does it."""
    action: Literal["snapshots.prune", "packs.collect"]
    agent_uid: str = ""
    agent_id: str = ""
    """Empty when it is not known."""
    keep: str = ""
    """The rules of the pruning."""
    snapshots: tuple[int, ...] = ()
    """Numbers of the snapshots that are to be removed."""


class AuditFile:
    """One file of audit lines, written by one activity; a retry of it adds to what its earlier attempts wrote."""

    def __init__(self, store: ObjectStore, key: str) -> None:
        """The lines under this key."""
        self._store = store
        self._seen: tuple[str | None, bytes] | None = None
        self.key = key

    async def lines(self) -> list[UpkeepLine]:
        """All lines, the oldest first."""
        _, data = await self._read()
        return [UpkeepLine.model_validate_json(line) for line in data.splitlines()]

    async def add(self, line: UpkeepLine) -> None:
        """Write one more line; it is durable when this returns.

        Raises:
            StoreError: It is not, and what it speaks of must not be done.
        """
        while True:
            etag, before = await self._read()
            data = before + line.model_dump_json().encode() + b"\n"
            try:
                self._seen = (await self._store.replace(self.key, data, if_match=etag), data)
            except PreconditionFailed:
                # An attempt that was given up runs on, or this one does after its answer was lost.
                self._seen = None
                continue
            return

    async def _read(self) -> tuple[str | None, bytes]:
        if self._seen is None:
            found = await self._store.head(self.key)
            self._seen = (None, b"") if found is None else (found.etag, await self._store.get(self.key))
        return self._seen
