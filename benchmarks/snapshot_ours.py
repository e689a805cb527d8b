"""Our engine as the benchmarks of snapshots use it: the one place that knows how it is called."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Literal, Self

from activities.adapters.docker_captures import DockerCaptures
from activities.adapters.stores import open_store
from activities.snapshots.engine import Engine
from activities.snapshots.sealing import KEY_BYTES, PLAIN, Key, KeyRing

if TYPE_CHECKING:
    from activities.adapters.docker_client import Daemon
    from activities.adapters.s3_store import S3Settings
    from activities.ports.snapshots import RestoreInfo, SnapshotInfo

Kind = Literal["host", "api"]
UID = "bench"


def _silent(_text: str) -> None:
    """Nobody follows a benchmark."""


class Ours:
    """An engine over a store of its own, as a worker has it: it stays up from one snapshot to the next."""

    def __init__(
        self, store: str, kind: Kind, daemon: Daemon, *, s3: S3Settings | None = None, sealed: bool = False
    ) -> None:
        """Snapshots go to the store of this URL, encrypted if they are to be."""
        self._store = open_store(store, s3=s3)
        sealer = KeyRing([Key("bench", bytes(KEY_BYTES))]) if sealed else PLAIN
        self._engine = Engine(self._store, DockerCaptures(daemon, kind=kind), sealer=sealer)
        self._container = ""
        self._number = 0
        self._ref: str | None = None

    async def __aenter__(self) -> Self:
        """Nothing to do: what it opens, it opens when needed."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Leave the store."""
        await self._store.close()

    async def prepare(self, container: str) -> None:
        """Take up a container that was just started."""
        await self._engine.claim(agent_uid=UID, generation=1)
        await self._engine.prepare(container, agent_uid=UID, generation=1)
        self._container = container

    async def take(self) -> tuple[float, SnapshotInfo]:
        """Take the next snapshot; seconds, and what the engine says of it."""
        began = time.perf_counter()
        info = await self._engine.take(
            self._container,
            agent_uid=UID,
            generation=1,
            number=self._number + 1,
            parent=self._ref,
            progress=_silent,
        )
        seconds = time.perf_counter() - began
        if not info.unchanged:
            self._number += 1
        self._ref = info.ref
        return seconds, info

    async def restoring(self) -> None:
        """Say that a container is about to be made for a restore, as `sandbox.acquire` does."""
        assert self._ref is not None  # noqa: S101 - a mistake of the benchmark's own
        self._engine.prefetch(self._ref)

    async def restore(self, container: str) -> RestoreInfo:
        """Restore the newest snapshot into another container, which was just started."""
        assert self._ref is not None  # noqa: S101 - a mistake of the benchmark's own
        await self._engine.prepare(container, agent_uid=UID, generation=1)
        return await self._engine.restore(container, agent_uid=UID, generation=1, ref=self._ref, progress=_silent)

    async def forget(self, container: str) -> None:
        """Drop what is kept of a container."""
        await self._engine.forget(container)
