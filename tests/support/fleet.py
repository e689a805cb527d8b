"""Agents without containers over one store, and a clock that a test moves."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from activities.adapters.local_store import LocalStore
from activities.ports.snapshots import WHOLE_LIFE, BranchStart
from activities.snapshots.engine import Engine
from activities.snapshots.entries import ROOT, Entry, Kind
from activities.snapshots.sealing import PLAIN
from activities.snapshots.sharing import Bounds
from activities.snapshots.timing import Timing
from activities.snapshots.upkeep import StoreUpkeep
from tests.support.memory_capture import MemoryCapture

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from activities.ports.snapshots import RestoreInfo, SnapshotInfo
    from activities.ports.store import ObjectInfo
    from activities.snapshots.sealing import Sealer

DAY = timedelta(days=1)


class CountingStore(LocalStore):
    """Notes every request, and may break off."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.log: list[str] = []
        self.fail_at: int | None = None
        """At which request the writer dies: from there on nothing is done any more."""

    def _note(self, what: str) -> None:
        if self.fail_at is not None and len(self.log) >= self.fail_at:
            msg = "the writer is dead"
            raise RuntimeError(msg)
        self.log.append(what)

    async def get(self, key: str) -> bytes:
        self._note(f"GET {key}")
        return await super().get(key)

    async def get_range(self, key: str, start: int, length: int) -> bytes:
        self._note(f"GET {key}")
        return await super().get_range(key, start, length)

    async def head(self, key: str) -> ObjectInfo | None:
        self._note(f"HEAD {key}")
        return await super().head(key)

    async def put(self, key: str, data: bytes, *, if_none_match: bool = False) -> None:
        self._note(f"PUT {key}")
        await super().put(key, data, if_none_match=if_none_match)

    async def replace(self, key: str, data: bytes, *, if_match: str | None) -> str:
        self._note(f"PUT {key}")
        return await super().replace(key, data, if_match=if_match)

    async def delete(self, keys: Iterable[str]) -> None:
        for key in list(keys):
            self._note(f"DELETE {key}")
            await super().delete([key])


class Fleet:
    """All agents of one store."""

    def __init__(self, root: Path, bounds: Bounds | None = None) -> None:
        self.store = CountingStore(root)
        self.ahead = timedelta()
        self.timing = Timing(now=self._now, uptime=lambda: self._now().timestamp())
        self.bounds = bounds
        self.sealer: Sealer = PLAIN
        self.upkeep = StoreUpkeep(self.store, timing=self.timing)

    def _now(self) -> datetime:
        return datetime.now(UTC) + self.ahead

    def agent(self, uid: str, box: str = "box") -> Member:
        """An agent whose worker knows nothing yet."""
        return Member(self, uid, box)

    async def grown(self, snapshots: int) -> Member:
        """Agent `a` with snapshots a day apart, the last one a day old; each is full."""
        agent = await self.agent("a").claim()
        for number in range(snapshots):
            agent.write(b"file", b"%d" % number)
            agent.files.add(Entry(ROOT, Kind.DIRECTORY, mtime_ns=number + 1))
            await agent.take()
            self.ahead += DAY
        return agent

    async def keys(self, part: str) -> list[str]:
        """The keys that have this in them."""
        return [info.key async for info in self.store.list("") if part in info.key]


class Member:
    """One agent in one container on a host of its own."""

    def __init__(self, fleet: Fleet, uid: str, box: str) -> None:
        self._fleet = fleet
        self._box = box
        self.uid = uid
        self.files = MemoryCapture()
        self.engine = Engine(fleet.store, self.files, timing=fleet.timing, bounds=fleet.bounds, sealer=fleet.sealer)
        self.number = 0
        self.ref: str | None = None

    def write(self, name: bytes, content: bytes) -> None:
        self.files.add(Entry(name, Kind.FILE), content)

    def again(self) -> Member:
        """The same container, with a worker that knows nothing."""
        other = Member(self._fleet, self.uid, self._box)
        other.files.tree = self.files.tree
        other.number, other.ref = self.number, self.ref
        return other

    async def claim(self, generation: int = 1) -> Member:
        await self.engine.claim(agent_uid=self.uid, generation=generation)
        return self

    async def take(self, number: int | None = None, generation: int = 1) -> SnapshotInfo:
        number = self.number + 1 if number is None else number
        info = await self.engine.take(
            self._box, agent_uid=self.uid, generation=generation, number=number, parent=self.ref, progress=_ignore
        )
        self.number, self.ref = number, info.ref
        return info

    async def restore(self, ref: str, generation: int = 1, branch: BranchStart = WHOLE_LIFE) -> RestoreInfo:
        info = await self.engine.restore(
            self._box, agent_uid=self.uid, generation=generation, ref=ref, progress=_ignore, branch=branch
        )
        self.ref = info.restored
        return info

    async def read(self, ref: str, path: str) -> bytes:
        return b"".join([piece async for piece in self.engine.open_file(ref, path)])

    def content(self) -> dict[bytes, bytes]:
        return {path: content for path, (_, content) in self.files.tree.items()}


def _ignore(_: str) -> None:
    pass
