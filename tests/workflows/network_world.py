"""The part of the world that has rules for a sandbox's network."""

import asyncio
from dataclasses import dataclass, field

from temporalio import activity

from hibernaut import contracts as c
from hibernaut.models.network_change import NetworkReport


@dataclass
class NetworkWorld:
    """Takes rules, and tells what execs are to report of connections."""

    applied: list[c.ApplyNetworkRequest] = field(default_factory=list[c.ApplyNetworkRequest])
    apply_errors: list[BaseException | None] = field(default_factory=list[BaseException | None])
    block_rules: bool = False
    """Whether the proxy of the host takes its time."""
    block_acquire: int = 0
    """The generation whose container takes its time."""
    acquire_asked: asyncio.Event = field(default_factory=asyncio.Event)
    rules_asked: asyncio.Event = field(default_factory=asyncio.Event)
    reports: list[NetworkReport] = field(default_factory=list[NetworkReport])

    @activity.defn(name=c.NETWORK_APPLY.name)
    async def apply_rules(self, request: c.ApplyNetworkRequest) -> c.ApplyNetworkResult:
        self.rules_asked.set()
        while self.block_rules:
            activity.heartbeat()
            await asyncio.sleep(0.05)
        if self.apply_errors and (error := self.apply_errors.pop(0)) is not None:
            raise error
        self.applied.append(request)
        return c.ApplyNetworkResult(number=request.number)

    async def made_room(self, generation: int) -> None:
        while self.block_acquire == generation:
            self.acquire_asked.set()
            activity.heartbeat()
            await asyncio.sleep(0.05)

    def reported(self) -> NetworkReport | None:
        return self.reports.pop(0) if self.reports else None
