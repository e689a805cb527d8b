"""What an agent published: kept until the agent is deleted, whatever becomes of its computer."""

import os
import re
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import anyio
from pydantic import TypeAdapter

from hibernaut._gateway import GatewayClient, agent_path
from hibernaut.errors import FileMissing
from hibernaut.models import Artifact, ArtifactLink

_ARTIFACTS = TypeAdapter(list[Artifact])
CHUNK = 256 * 1024
_ID = re.compile(r"[A-Za-z0-9-]{1,100}")


class AgentArtifacts:
    """The artifacts of one agent."""

    def __init__(self, agent_id: str, gateway: GatewayClient) -> None:
        """Made by `AgentHandle.artifacts`."""
        self._agent_id = agent_id
        self._gateway = gateway

    async def list(self) -> "list[Artifact]":
        """All of them, the oldest first."""
        body = await self._gateway.get_json(agent_path(self._agent_id, "artifacts"))
        return _ARTIFACTS.validate_python(body["artifacts"])

    @asynccontextmanager
    async def open(self, artifact_id: str) -> AsyncGenerator[AsyncIterator[bytes]]:
        """Stream one.

        Raises:
            FileMissing: there is no such artifact.
        """
        async with self._gateway.stream(self._path(artifact_id), {}) as response:
            yield response.aiter_bytes(CHUNK)

    async def read(self, artifact_id: str) -> bytes:
        """The whole of one, in memory. Errors as of `open`."""
        async with self.open(artifact_id) as chunks:
            return b"".join([chunk async for chunk in chunks])

    async def download(self, artifact_id: str, local: str | os.PathLike[str]) -> int:
        """Copy one into a local file, which appears only when it is whole. Bytes read; errors as of `open`."""
        target = Path(local)
        partial = anyio.Path(target.with_name(f".{target.name}.part"))
        size = 0
        async with self.open(artifact_id) as chunks:
            try:
                async with await partial.open("wb") as out:
                    async for chunk in chunks:
                        size += await out.write(chunk)
                await partial.rename(target)
            finally:
                await partial.unlink(missing_ok=True)
        return size

    async def link(self, artifact_id: str, *, expires: timedelta = timedelta(hours=1)) -> ArtifactLink:
        """A link with which anyone can download one, for at most 7 days.

        Raises:
            FileMissing: there is no such artifact.
            InvalidRequest: the object store of the deployment makes no links, or `expires` is too long.
        """
        seconds = {"seconds": str(int(expires.total_seconds()))}
        return ArtifactLink.model_validate(await self._gateway.get_json(f"{self._path(artifact_id)}/link", seconds))

    def _path(self, artifact_id: str) -> str:
        if not _ID.fullmatch(artifact_id):
            raise FileMissing(f"There is no artifact {artifact_id[:200]!r}.", hint="The list names them.")
        return agent_path(self._agent_id, f"artifacts/{artifact_id}")
