"""Agents whose snapshots are real, of a computer that is a dictionary: the real engine over a real store."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from activities.adapters.local_store import LocalStore
from activities.snapshot import SnapshotActivities
from activities.snapshots.engine import Engine
from activities.snapshots.entries import Entry, Kind
from hibernaut import contracts as c
from tests.support.memory_capture import MemoryCapture
from tests.support.scripted_agents import Script


class SlowStore(LocalStore):
    """A store whose packs are read only while `gate` is open."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.gate = asyncio.Event()
        self.gate.set()
        self.waiting = asyncio.Event()

    async def get_range(self, key: str, start: int, length: int) -> bytes:
        if not self.gate.is_set():
            self.waiting.set()
            await self.gate.wait()
        return await super().get_range(key, start, length)


class Life(Script):
    """A message `run PATH=TEXT && rm PATH ...` changes files; every such turn is followed by a snapshot."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.store = SlowStore(folder)
        self.memory = MemoryCapture()
        self.engine = Engine(self.store, self.memory)
        self.on_exec = self._run

    def activities(self) -> list[Callable[..., Any]]:
        real = SnapshotActivities(self.engine)
        pretended = {self.take, self.restore}
        return [one for one in super().activities() if one not in pretended] + [real.take, real.restore]

    async def _run(self, request: c.ExecRequest) -> c.ExecResult:
        for command in request.commands:
            path, _, text = command.partition("=")
            if path.startswith("rm "):
                self.memory.tree[path[3:].encode()] = (Entry(path[3:].encode(), Kind.WHITEOUT), b"")
            else:
                raw = path.encode("latin-1")
                self.memory.add(Entry(raw, Kind.FILE, mode=0o644), text.encode())
        return c.ExecResult(record_ref=c.StoreKeys.exec_record(request.agent_uid, request.exec_prefix), outcomes=())


class RealFiles:
    """Reads files of snapshots with the real engine, in place of a pretended one."""

    def __init__(self, engine: Engine) -> None:
        self.list_files = engine.list_files
        self.engine = engine

    async def open_file(self, ref: str, path: str) -> AsyncIterator[bytes]:
        async for piece in self.engine.open_file(ref, path):
            yield piece
