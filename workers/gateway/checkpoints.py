"""The checkpoints of an agent: read from its event log, and looked for among its snapshots."""

from collections.abc import AsyncGenerator
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response

from activities.checkpoints import Checkpoints
from hibernaut._temporal import Workflows
from hibernaut.contracts import Standpoint
from hibernaut.models import Checkpoint
from workers.gateway import requests
from workers.gateway.streams import NDJSON, ndjson, streamed


@dataclass(frozen=True, slots=True)
class CheckpointList:
    """The route `/v1/agents/{id}/checkpoints`."""

    workflows: Workflows
    checkpoints: Checkpoints

    async def stream(self, request: Request) -> Response:
        """GET: every checkpoint, the oldest of each branch first."""
        source = await self.workflows.query(requests.agent_id(request), "standpoint", [], Standpoint)
        return await streamed(_lines(await self.checkpoints.all(source)), NDJSON)


async def _lines(found: list[Checkpoint]) -> AsyncGenerator[bytes]:
    for point in found:
        yield ndjson(point)
