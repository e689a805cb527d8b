"""The part of the world that summarises."""

import asyncio
from dataclasses import dataclass, field

from temporalio import activity

from hibernaut import contracts as c
from hibernaut.models import Usage
from tests.workflows.mcp_world import McpWorld


@dataclass
class CompactionWorld(McpWorld):
    """Answers `transcript.compact`, and logs what was asked."""

    compactions: list[c.CompactRequest] = field(default_factory=list[c.CompactRequest])
    compact_errors: list[BaseException | None] = field(default_factory=list[BaseException | None])
    compacts: bool = True
    """Whether there is something worth a compaction."""
    block_compaction: bool = False
    compacting: asyncio.Event = field(default_factory=asyncio.Event)

    @activity.defn(name=c.TRANSCRIPT_COMPACT.name)
    async def compact(self, request: c.CompactRequest) -> c.CompactResult:
        self.compactions.append(request)
        self.compacting.set()
        while self.block_compaction:
            activity.heartbeat()
            await asyncio.sleep(0.05)
        if self.compact_errors and (error := self.compact_errors.pop(0)) is not None:
            raise error
        key = c.StoreKeys.compaction(request.agent_uid, request.branch, request.step, request.ordinal)
        return c.CompactResult(
            ref=key if self.compacts else None,
            covers_branch=request.branch,
            covers_step=request.step - 1,
            steps=1,
            tokens_before=1_000,
            tokens_after=100,
            usage=Usage(input_tokens=100, output_tokens=20, total_tokens=120),
            summary_head="## Open tasks",
        )
