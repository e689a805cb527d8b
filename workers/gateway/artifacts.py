"""What agents published: listed, downloaded, linked to."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from activities.artifacts import artifact, artifacts_of
from activities.ports.store import Linking, ObjectStore
from hibernaut.client import AgentClient
from hibernaut.contracts import StoreKeys
from hibernaut.errors import FileMissing, InvalidRequest
from hibernaut.models import Artifact, ArtifactLink
from workers.gateway import requests
from workers.gateway.streams import streamed

LONGEST_LINK = timedelta(days=7)
"""S3's own limit of a presigned URL."""


@dataclass(frozen=True, slots=True)
class Artifacts:
    """The routes under `/v1/agents/{id}/artifacts`."""

    agents: AgentClient
    store: ObjectStore

    async def list(self, request: Request) -> Response:
        """GET: every artifact, the oldest first."""
        found = await artifacts_of(await self._uid(request), self.store)
        return JSONResponse({"artifacts": [one.model_dump(mode="json") for one in found]})

    async def content(self, request: Request) -> Response:
        """GET: an artifact's bytes, as an attachment."""
        uid, one = await self._one(request)
        headers = {
            "content-length": str(one.size),
            "content-disposition": disposition(one.name),
            "x-content-type-options": "nosniff",
        }
        return await streamed(self.store.stream(StoreKeys.artifact(uid, one.id)), headers=headers)

    async def link(self, request: Request) -> Response:
        """GET: a link for whoever has no token."""
        uid, one = await self._one(request)
        seconds = _seconds(requests.query(request).get("seconds", "3600"))
        expires = datetime.now(UTC) + timedelta(seconds=seconds)
        if not isinstance(self.store, Linking):
            raise InvalidRequest(
                "The object store of this deployment makes no links.",
                hint="Download it with `hibernaut artifacts get`.",
            )
        url = await self.store.link(StoreKeys.artifact(uid, one.id), seconds, disposition(one.name))
        return JSONResponse(ArtifactLink(url=url, expires_at=expires).model_dump(mode="json"))

    async def _uid(self, request: Request) -> str:
        return (await self.agents.get(requests.agent_id(request)).status()).agent_uid

    async def _one(self, request: Request) -> tuple[str, Artifact]:
        uid, wanted = await self._uid(request), str(request.path_params["artifact_id"])
        found = await artifact(uid, wanted, self.store) if wanted.replace("-", "").isalnum() else None
        if found is None:
            raise FileMissing(f"There is no artifact {wanted[:200]!r}.", hint="`hibernaut artifacts NAME` lists them.")
        return uid, found


def disposition(name: str) -> str:
    """The Content-Disposition of a download (RFC 6266): a browser saves it, whatever it is."""
    return f"attachment; filename*=UTF-8''{quote(name, safe='')}"


def _seconds(text: str) -> int:
    value = int(text) if text.isascii() and text.isdecimal() else 0
    if not 1 <= value <= LONGEST_LINK.total_seconds():
        raise InvalidRequest(f"A link lasts 1 to {LONGEST_LINK.total_seconds():.0f} seconds, not {text[:20]!r}.")
    return value
