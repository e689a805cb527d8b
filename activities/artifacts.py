"""`artifact.publish`: a file of a sandbox, kept in the object store for people."""

import hashlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime

from pydantic import ValidationError
from temporalio import activity

from activities.errors import ArtifactTooLarge, ObjectNotFound
from activities.heartbeat import beating
from activities.ports.sandbox import Sandboxes
from activities.ports.store import ObjectStore
from hibernaut.contracts import ARTIFACT_PUBLISH, PublishRequest, PublishResult, StoreKeys
from hibernaut.models import Artifact

INFO = "/info.json"


class ArtifactActivities:
    """Runs on a sandbox host's own queue."""

    def __init__(self, sandboxes: Sandboxes, store: ObjectStore) -> None:
        """Read from this host's sandboxes, write to the store."""
        self._sandboxes = sandboxes
        self._store = store

    @activity.defn(name=ARTIFACT_PUBLISH.name)
    async def publish(self, request: PublishRequest) -> PublishResult:
        """Copy a file into the store. It is listed once it is whole; a retry copies it anew.

        Raises:
            PathNotUsable: there is no such file, or it is none.
            ArtifactTooLarge: it has more bytes than the spec allows.
            SandboxLost: the sandbox is gone.
        """
        digest = hashlib.sha256()
        async with beating():
            read = _measured(self._sandboxes.read_file(request.lease.sandbox_id, request.path), digest, request)
            size = await self._store.put_stream(StoreKeys.artifact(request.agent_uid, request.artifact_id), read)
            info = Artifact(
                id=request.artifact_id,
                name=request.name,
                path=request.path,
                description=request.description,
                size=size,
                sha256=digest.hexdigest(),
                published_at=datetime.now(UTC),
                turn=request.turn,
                step=request.step,
            )
            key = StoreKeys.artifact_info(request.agent_uid, request.artifact_id)
            await self._store.put(key, info.model_dump_json().encode())
        return PublishResult(artifact_id=info.id, name=info.name, size=size, sha256=info.sha256)


async def artifacts_of(agent_uid: str, store: ObjectStore) -> list[Artifact]:
    """What an agent published, the oldest first."""
    found: list[Artifact] = []
    async for folder in store.list_folders(StoreKeys.artifacts(agent_uid)):
        one = await artifact(agent_uid, folder.rstrip("/").rsplit("/", 1)[-1], store)
        if one is not None:
            found.append(one)
    return sorted(found, key=lambda one: (one.published_at, one.id))


async def artifact(agent_uid: str, artifact_id: str, store: ObjectStore) -> Artifact | None:
    """One artifact; none when there is none, or it is not whole."""
    try:
        return Artifact.model_validate_json(await store.get(StoreKeys.artifact_info(agent_uid, artifact_id)))
    except (ObjectNotFound, ValidationError):
        return None


async def _measured(
    chunks: AsyncIterator[bytes], digest: "hashlib._Hash", request: PublishRequest
) -> AsyncIterator[bytes]:
    size = 0
    async for chunk in chunks:
        size += len(chunk)
        if size > request.max_bytes:
            msg = f"{request.path} has more than {request.max_bytes} bytes, the most that may be published."
            raise ArtifactTooLarge(msg)
        digest.update(chunk)
        yield chunk
