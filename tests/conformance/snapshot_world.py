"""What the snapshot suites share."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Literal

import pytest

from activities.adapters.docker_captures import DockerCaptures
from activities.adapters.local_store import LocalStore
from activities.errors import StoreUnavailable
from activities.snapshots.engine import Engine
from tests.support.boxes import Box, Boxes, Tree, assert_same_changes

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from activities.ports.snapshots import SnapshotInfo

UID = "agent-1"


def progress(text: str) -> None:
    assert isinstance(text, str)


class SnapshotWorld:
    """What the suites share: containers, a store, and a worker that knows nothing but the store."""

    kind: Literal["host", "api"]

    @pytest.fixture
    def boxes(self) -> Iterator[Boxes]:
        made = Boxes()
        try:
            yield made
        finally:
            made.close()

    @pytest.fixture
    def store(self, tmp_path: Path) -> LocalStore:
        return LocalStore(tmp_path / "store")

    @pytest.fixture
    def engine(self, boxes: Boxes, store: LocalStore) -> Engine:
        return self.new_engine(boxes, store)

    def new_engine(self, boxes: Boxes, store: LocalStore) -> Engine:
        """A worker that knows nothing but the store."""
        return Engine(store, DockerCaptures(boxes.daemon, kind=self.kind))

    async def fresh(self, engine: Engine, boxes: Boxes, generation: int = 1) -> tuple[Box, Tree]:
        box = boxes.make()
        await engine.prepare(box.id, agent_uid=UID, generation=generation)
        return box, box.look()

    async def take(
        self, engine: Engine, box: Box, number: int, parent: str | None = None, generation: int = 1
    ) -> SnapshotInfo:
        return await engine.take(
            box.id, agent_uid=UID, generation=generation, number=number, parent=parent, progress=progress
        )

    async def check_restore(self, engine: Engine, boxes: Boxes, source: Box, fresh: Tree, ref: str) -> Box:
        """Restore into a new container, look at both from inside, and see that nothing is left to snapshot."""
        copy, _ = await self.fresh(engine, boxes, 2)
        done = await engine.restore(copy.id, agent_uid=UID, generation=2, ref=ref, progress=progress)
        assert (done.requested, done.restored, done.reason) == (ref, ref, None)
        assert_same_changes(fresh, source.look(), copy.look())
        again = await self.take(engine, copy, 900, ref, 2)
        assert (again.unchanged, again.ref) == (True, ref)
        assert not copy.is_paused
        return copy


class FailingStore(LocalStore):
    """A folder that refuses or holds back some writes."""

    def __init__(self, inner: LocalStore) -> None:
        super().__init__(inner._root)
        self.refuse = ""
        self.stall: asyncio.Event | None = None

    async def put(self, key: str, data: bytes, *, if_none_match: bool = False) -> None:
        if self.refuse and self.refuse in key:
            msg = "The store is away."
            raise StoreUnavailable(msg)
        if self.stall is not None:
            self.stall.set()
            await asyncio.Event().wait()
        await super().put(key, data, if_none_match=if_none_match)
