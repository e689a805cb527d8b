"""Files of an agent: from its container when that runs here, else from its newest snapshot, or from one asked for."""

import json
import logging
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Literal, Protocol

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from activities.errors import HibernautActivityError, SandboxLost
from activities.ports.store import ObjectStore
from hibernaut._temporal import Workflows
from hibernaut.client import AgentClient
from hibernaut.contracts import PutFile, PutFileResult, StoreKeys
from hibernaut.errors import FileTooLarge, HibernautError, InvalidRequest, RequestRejected, SandboxAsleep
from hibernaut.models import AgentStatus, FileEntry
from workers.gateway import requests
from workers.gateway.problems import from_activity, rejected
from workers.gateway.snapshots import Snapshots
from workers.gateway.streams import streamed

log = logging.getLogger(__name__)

PUT_SECONDS = 240.0
"""How long a write waits for the agent: it may have to wake first."""
SOURCE = "X-Hibernaut-Source"
Source = Literal["container", "snapshot"]


class SandboxFiles(Protocol):
    """What the gateway uses of `activities.ports.sandbox.Sandboxes`."""

    def read_file(self, sandbox_id: str, path: str) -> AsyncIterator[bytes]:
        """Stream a file out of a running container."""
        ...

    async def list_files(self, sandbox_id: str, path: str) -> list[FileEntry]:
        """The entries of a directory in a running container."""
        ...


class SnapshotFiles(Protocol):
    """What the gateway uses of `activities.ports.snapshots.SnapshotEngine`."""

    def open_file(self, ref: str, path: str) -> AsyncIterator[bytes]:
        """Stream a file out of a snapshot."""
        ...

    async def list_files(self, ref: str, path: str) -> list[FileEntry]:
        """The entries of a directory in a snapshot."""
        ...


@dataclass(frozen=True, slots=True)
class Files:
    """The routes under `/v1/agents/{id}/files`."""

    agents: AgentClient
    workflows: Workflows
    store: ObjectStore
    snapshots: SnapshotFiles
    named: Snapshots
    sandboxes: SandboxFiles | None
    host_id: str
    max_upload_bytes: int

    async def list(self, request: Request) -> Response:
        """GET: the entries of a directory."""
        name = requests.agent_id(request)
        parameters = requests.query(request)
        path = requests.path(parameters, default="/")
        status = await self.agents.get(name).status()
        chosen = await self._chosen(status, parameters)
        try:
            source, entries = await self._entries(status, path, chosen)
        except HibernautActivityError as error:
            raise from_activity(error, path, asleep=chosen is None) or error from error
        body = {"path": path, "source": source, "entries": [entry.model_dump(mode="json") for entry in entries]}
        # json.dumps writes names that are not UTF-8 as escaped surrogates, which is how clients read them back.
        return Response(json.dumps(body), media_type="application/json", headers={SOURCE: source})

    async def read(self, request: Request) -> Response:
        """GET: a file's bytes."""
        name = requests.agent_id(request)
        parameters = requests.query(request)
        path = requests.path(parameters)
        status = await self.agents.get(name).status()
        chosen = await self._chosen(status, parameters)
        try:
            return await self._content(status, path, chosen)
        except HibernautActivityError as error:
            raise from_activity(error, path, asleep=chosen is None) or error from error

    async def write(self, request: Request) -> Response:
        """PUT: the body becomes the file."""
        name = requests.agent_id(request)
        parameters = requests.query(request)
        path, mode = requests.path(parameters), requests.mode(parameters)
        if path == "/":
            raise InvalidRequest("The path / is a directory.")
        try:
            path.encode()
        except UnicodeEncodeError as error:
            raise InvalidRequest("Files can only be written under names that are UTF-8.") from error
        length = request.headers.get("content-length", "")
        if length.isdecimal() and int(length) > self.max_upload_bytes:
            raise self._too_large()
        status = await self.agents.get(name).status()
        await self.workflows.raise_if_closed(name)
        key = StoreKeys.upload(status.agent_uid, uuid.uuid4().hex)
        try:
            await self.store.put_stream(key, self._limited(request))
            result = await self.workflows.update(
                name, "put_file", [PutFile(upload_ref=key, path=path, mode=mode)], PutFileResult, seconds=PUT_SECONDS
            )
        except RequestRejected as error:
            raise rejected(error, path) from error
        except ClientDisconnect:
            log.info("an upload to %s was broken off by its client", name)
            return Response(status_code=400)
        finally:
            await self._discard(key)
        return Response(result.model_dump_json(), media_type="application/json")

    async def _chosen(self, status: AgentStatus, parameters: dict[str, str]) -> str | None:
        """The snapshot that is to be read, whether or not the agent has a container."""
        which = parameters.get("snapshot", "")
        return await self.named.one(status, which) if which else None

    async def _entries(self, status: AgentStatus, path: str, chosen: str | None) -> "tuple[Source, list[FileEntry]]":
        if chosen is None and (sandbox_id := self._here(status)) and self.sandboxes is not None:
            try:
                return "container", await self.sandboxes.list_files(sandbox_id, path)
            except SandboxLost as error:
                log.info("reading the snapshot instead: %s", error)
        return "snapshot", await self.snapshots.list_files(chosen or _snapshot(status), path)

    async def _content(self, status: AgentStatus, path: str, chosen: str | None) -> Response:
        if chosen is None and (sandbox_id := self._here(status)) and self.sandboxes is not None:
            try:
                chunks = self.sandboxes.read_file(sandbox_id, path)
                return await streamed(chunks, headers={SOURCE: "container"})
            except SandboxLost as error:
                log.info("reading the snapshot instead: %s", error)
        chunks = self.snapshots.open_file(chosen or _snapshot(status), path)
        return await streamed(chunks, headers={SOURCE: "snapshot"})

    def _here(self, status: AgentStatus) -> str | None:
        lease = status.lease
        return lease.sandbox_id if lease is not None and lease.host_id == self.host_id else None

    async def _limited(self, request: Request) -> AsyncIterator[bytes]:
        size = 0
        async for chunk in request.stream():
            size += len(chunk)
            if size > self.max_upload_bytes:
                raise self._too_large()
            yield chunk

    async def _discard(self, key: str) -> None:
        try:
            await self.store.delete([key])
        except HibernautActivityError as error:
            # It goes with the agent at the latest; the write itself has its own outcome.
            log.warning("an upload was left behind: %s", error)

    def _too_large(self) -> HibernautError:
        return FileTooLarge(
            f"The gateway takes files of at most {self.max_upload_bytes:,} bytes.",
            hint="HIBERNAUT_MAX_UPLOAD_MB raises the limit; or split the file.",
        )


def _snapshot(status: AgentStatus) -> str:
    if status.snapshot is None:
        raise SandboxAsleep(
            f"Agent {status.agent_id} has no snapshot: it changed nothing over its image yet, or runs elsewhere.",
            hint="Wake it to read the image's own files.",
        )
    return status.snapshot.ref
