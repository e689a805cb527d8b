"""The snapshots of an agent's computer, read from the store whether the agent runs, sleeps or is closed."""

import json
from collections.abc import AsyncGenerator
from urllib.parse import quote

from hibernaut._gateway import GatewayClient, agent_path
from hibernaut._temporal import Workflows
from hibernaut._upkeep import SnapshotUpkeep, Tell
from hibernaut.contracts import NameResult, PruneResult, Retention, VerifyResult
from hibernaut.errors import SnapshotMissing
from hibernaut.models import SnapshotChange, SnapshotDetail, SnapshotPage, SnapshotPath, SnapshotSummary

PAGE = 100
Which = int | str
"""A snapshot: its number, a name it was given, its reference, or `latest`."""


class AgentSnapshots:
    """What was kept of an agent's computer, and when. Reading it wakes nobody."""

    def __init__(self, agent_id: str, gateway: GatewayClient, workflows: Workflows) -> None:
        """Made by `AgentHandle.snapshots`."""
        self._agent_id = agent_id
        self._gateway = gateway
        self._upkeep = SnapshotUpkeep(workflows)

    async def page(self, *, before: int | None = None, limit: int = 20) -> SnapshotPage:
        """Some of the snapshots, the newest first.

        Args:
            before: Only those with a lower number.
            limit: How many, up to 200.
        """
        params = {"limit": limit} if before is None else {"limit": limit, "before": before}
        body = await self._gateway.get_json(agent_path(self._agent_id, "snapshots"), params)
        return SnapshotPage.model_validate(body)

    async def list(self) -> AsyncGenerator[SnapshotSummary]:
        """All snapshots, the newest first; they are read as they are asked for."""
        before: int | None = None
        while True:
            page = await self.page(before=before, limit=PAGE)
            for snapshot in page.snapshots:
                yield snapshot
            before = page.before
            if before is None:
                return

    async def show(self, which: Which = "latest") -> SnapshotDetail:
        """All there is to say of one snapshot, its paths left out.

        Raises:
            SnapshotMissing: there is none.
            GatewayFailed: its manifest is damaged.
        """
        return SnapshotDetail.model_validate(await self._gateway.get_json(self._path(which)))

    async def paths(self, which: Which = "latest") -> AsyncGenerator[SnapshotPath]:
        """Every path in which a snapshot differs from its image, a directory before what is in it. Errors as `show`."""
        async for line in self._gateway.lines(self._path(which, "/paths")):
            # Not validated as JSON: names that are not UTF-8 are surrogates.
            yield SnapshotPath.model_validate(json.loads(line))

    async def diff(self, before: Which | None, after: Which = "latest") -> AsyncGenerator[SnapshotChange]:
        """Every path in which two snapshots differ, a directory before what is in it. Errors as of `show`.

        A path that `before` does not have is told as added, though it may be one of the image that was changed for
        the first time: a snapshot does not know what its image has.

        Args:
            before: `image` stands for the image alone, None for the snapshot right before `after`.
            after: The later one, mostly.
        """
        params = None if before is None else {"since": str(before)}
        async for line in self._gateway.lines(self._path(after, "/changes"), params):
            yield SnapshotChange.model_validate(json.loads(line))

    async def verify(self, *, progress: Tell | None = None) -> VerifyResult:
        """Read and check everything that they need. See `SnapshotUpkeep.verify`."""
        return await self._upkeep.verify(self._agent_id, progress=progress)

    async def prune(
        self, keep: Retention | None = None, *, dry_run: bool = False, progress: Tell | None = None
    ) -> PruneResult:
        """Remove those that no rule keeps. See `SnapshotUpkeep.prune`."""
        return await self._upkeep.prune(self._agent_id, keep, dry_run=dry_run, progress=progress)

    async def name(self, number: int, name: str, *, move: bool = False) -> NameResult:
        """Give one a name, which keeps it from being pruned. See `SnapshotUpkeep.name`."""
        return await self._upkeep.name(self._agent_id, number, name, move=move)

    async def unname(self, name: str) -> bool:
        """Take a name away; whether there was one."""
        return await self._upkeep.unname(self._agent_id, name)

    def _path(self, which: Which, rest: str = "") -> str:
        text = str(which)
        if any(part in {"", ".", ".."} for part in text.split("/")):
            raise SnapshotMissing(f"No snapshot is called {text!r}.", hint="Say a number, a name, or `latest`.")
        quoted = quote(text, errors="replace")
        return agent_path(self._agent_id, f"snapshots/{quoted}{rest}")
