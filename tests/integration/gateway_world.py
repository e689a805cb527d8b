"""A gateway over HTTP on a real agent workflow and a real store; the computer itself is a dictionary."""

import asyncio
import socket
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx2
import uvicorn
from pydantic import SecretStr
from temporalio import activity
from temporalio.client import Client

from activities.adapters.local_store import LocalStore
from activities.audit import AgentAudit
from activities.audit_digests import Digests
from activities.errors import FileInImageOnly, FileNotInSnapshot, PathNotUsable, SandboxLost
from activities.housekeeping import EVENTS
from activities.transcript import Transcript
from hibernaut.agent import AgentHandle
from hibernaut.client import AgentClient
from hibernaut.contracts import AppendEventsRequest, PutFileRequest, StoreKeys
from hibernaut.models import FileEntry, FileType
from hibernaut.models.audit import AuditHead
from tests.support.scripted_agents import HOST, Script
from workers.gateway import Gateway

TOKEN = "a token for a test"
LIMIT = 3_000_000


def entry(path: str, content: bytes) -> FileEntry:
    return FileEntry(
        path=path,
        type=FileType.FILE,
        size=len(content),
        mode=0o644,
        uid=0,
        gid=0,
        mtime=datetime(2026, 1, 1, tzinfo=UTC),
    )


async def pieces(content: bytes, size: int = 64 * 1024) -> AsyncIterator[bytes]:
    for start in range(0, len(content), size):
        yield content[start : start + size]


@dataclass
class Computer:
    """The files of the one container; doubles as the host's sandboxes, as far as the gateway uses them."""

    files: dict[str, bytes] = field(default_factory=dict[str, bytes])
    gone: bool = False

    def _there(self) -> None:
        if self.gone:
            raise SandboxLost("the container is gone")

    async def read_file(self, sandbox_id: str, path: str) -> AsyncIterator[bytes]:
        self._there()
        assert sandbox_id
        if path not in self.files:
            raise PathNotUsable(f"{path} in the container: no such file or directory")
        if path.endswith("fifo"):
            raise PathNotUsable(f"{path} in the container: not a regular file")
        async for chunk in pieces(self.files[path]):
            yield chunk
            if path.endswith("broken") and len(chunk):
                raise PathNotUsable(f"{path} in the container: exit code 1")

    async def list_files(self, sandbox_id: str, path: str) -> list[FileEntry]:
        self._there()
        assert sandbox_id
        found = [entry(name, data) for name, data in sorted(self.files.items()) if name.startswith(path)]
        if not found:
            raise PathNotUsable(f"{path} in the container: no such file or directory")
        return found


@dataclass
class Snapshots:
    """One snapshot, whatever it is called."""

    files: dict[str, bytes] = field(default_factory=dict[str, bytes])
    deleted: set[str] = field(default_factory=set[str])

    async def list_files(self, ref: str, path: str) -> list[FileEntry]:
        assert ref.startswith("snapshot-")
        return [entry(name, data) for name, data in sorted(self.files.items()) if name.startswith(path)]

    async def open_file(self, ref: str, path: str) -> AsyncIterator[bytes]:
        assert ref.startswith("snapshot-")
        if path in self.deleted:
            raise FileNotInSnapshot(f"{path} was deleted")
        if path not in self.files:
            raise FileInImageOnly(f"{path} is not in the delta")
        async for chunk in pieces(self.files[path]):
            yield chunk


@dataclass
class World:
    """Everything a gateway test touches."""

    url: str
    http: httpx2.AsyncClient
    agents: AgentClient
    store: LocalStore
    computer: Computer
    snapshots: Snapshots
    script: Script

    async def uploads(self, uid: str) -> list[str]:
        prefix = StoreKeys.upload(uid, "x").rpartition("/")[0] + "/"
        return [info.key async for info in self.store.list(prefix)]


def body(response: httpx2.Response, status: int) -> dict[str, Any]:
    """The JSON of an answer that must have this status."""
    assert response.status_code == status, response.text
    return response.json()


@asynccontextmanager
async def gateway_world(temporal: Client, script: Script, folder: Path) -> AsyncGenerator[World]:
    """Serve a gateway on a free port of the loopback interface."""
    folder.mkdir(parents=True, exist_ok=True)
    store, computer, snapshots = LocalStore(folder), Computer(), Snapshots()

    async def put(request: PutFileRequest) -> int:
        content = await store.get(request.upload_ref)
        if request.path.startswith("/proc"):
            raise PathNotUsable(f"{request.path} in the container: read-only")
        computer.files[request.path] = content
        return len(content)

    audit = AgentAudit(store, Digests(b"a key for a test, 32 bytes long.."))

    async def append(request: AppendEventsRequest) -> AuditHead | None:
        await store.put(StoreKeys.events(request.agent_uid, request.events[0].seq), EVENTS.dump_json(request.events))
        if request.audit is None:
            return None
        name = activity.info().workflow_id or ""
        return await audit.append(name, request.agent_uid, request.events, request.audit)

    script.on_put, script.on_events = put, append
    gateway = Gateway(
        temporal=temporal,
        store=store,
        snapshots=snapshots,
        sandboxes=computer,
        transcript=Transcript(store),
        host_id=HOST,
        token=SecretStr(TOKEN),
        max_upload_bytes=LIMIT,
    )
    async with serving(gateway) as url:
        agents = AgentClient.over(temporal, gateway_url=url, gateway_token=TOKEN)
        headers = {"Authorization": f"Bearer {TOKEN}"}
        async with agents, httpx2.AsyncClient(base_url=url, headers=headers, trust_env=False, timeout=30) as http:
            yield World(url, http, agents, store, computer, snapshots, script)
    await store.close()


async def on_record(agent: AgentHandle) -> None:
    """Until what the agent has done is in its audit log: one that goes to sleep writes it on its way."""
    while (status := await agent.status()).audit.event < status.last_event:
        await asyncio.sleep(0.05)


@asynccontextmanager
async def serving(gateway: Gateway) -> AsyncGenerator[str]:
    """Serve a gateway on a free port; its address."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(gateway.app(), log_config=None, timeout_graceful_shutdown=1))
        task = asyncio.create_task(server.serve(sockets=[listener]))
        while not server.started:
            await asyncio.sleep(0.01)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        server.should_exit = True
        await task
