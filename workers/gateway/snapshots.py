"""Snapshots of an agent: listed, shown, compared. All of it comes from the store; no host and no container is asked."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response

from activities.snapshots.history import LATEST, History
from hibernaut._temporal import Workflows
from hibernaut.errors import InvalidRequest
from hibernaut.models import AgentStatus
from hibernaut.models.base import Open
from workers.gateway import requests
from workers.gateway.streams import NDJSON, ndjson, streamed

NEWEST = 20
MOST = 200
MAX_WHICH = 400


@dataclass(frozen=True, slots=True)
class Snapshots:
    """The routes under `/v1/agents/{id}/snapshots`."""

    workflows: Workflows
    history: History

    async def list(self, request: Request) -> Response:
        """GET: some of the snapshots, the newest first."""
        parameters = requests.query(request)
        limit = requests.number(parameters, "limit", NEWEST, most=MOST)
        before = requests.number(parameters, "before", 0) or None
        status = await self._status(request)
        page = await self.history.page(status.agent_uid, newest=_newest(status), before=before, limit=max(1, limit))
        return _json(page)

    async def show(self, request: Request) -> Response:
        """GET: all there is to say of one snapshot, its paths left out."""
        status, ref = await self._one(request)
        return _json(await self.history.show(ref, newest=_newest(status)))

    async def paths(self, request: Request) -> Response:
        """GET: every path in which a snapshot differs from its image."""
        _, ref = await self._one(request)
        return await streamed(_lines(self.history.paths(ref)), NDJSON)

    async def changes(self, request: Request) -> Response:
        """GET: every path that changed since another snapshot, by default since the one before."""
        status, ref = await self._one(request)
        since = requests.query(request).get("since", "")
        before = await self.find(status, since) if since else await self.history.parent(ref)
        return await streamed(_lines(self.history.changes(before, ref)), NDJSON)

    async def find(self, status: AgentStatus, which: str) -> str | None:
        """The reference of the snapshot that a client speaks of; None for the image."""
        if len(which) > MAX_WHICH:
            raise InvalidRequest("A snapshot is called by a number, `latest`, its name or its reference.")
        return await self.history.resolve(status.agent_uid, which, newest=_newest(status))

    async def one(self, status: AgentStatus, which: str) -> str:
        """The same, where the image alone is no answer."""
        ref = await self.find(status, which)
        if ref is None:
            raise InvalidRequest("The image is no snapshot.", hint=f"Say a number, a name, or `{LATEST}`.")
        return ref

    async def _one(self, request: Request) -> tuple[AgentStatus, str]:
        status = await self._status(request)
        return status, await self.one(status, str(request.path_params["snapshot"]))

    async def _status(self, request: Request) -> AgentStatus:
        return await self.workflows.query(requests.agent_id(request), "status", [], AgentStatus)


def _newest(status: AgentStatus) -> str | None:
    return status.snapshot.ref if status.snapshot is not None else None


def _json(body: Open) -> Response:
    return Response(ndjson(body), media_type="application/json")


async def _lines(batches: AsyncIterator[Sequence[Open]]) -> AsyncIterator[bytes]:
    async for batch in batches:
        yield b"".join(ndjson(item) for item in batch)
