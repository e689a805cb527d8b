"""Snapshots of the OpenAI Agents SDK's Docker sandbox: its workspace folder as a tar, as its own client takes them.

Runs in an environment of its own (`requirements/peers.txt`); `benchmarks.snapshot_agents` makes that and starts this.
One argument, a JSON object: image, label (put on every container), folder (for the snapshots). Reads requests from its
input, a JSON object a line with `do`, and answers each with one: `create` (container), `take` (seconds, bytes),
`restore` (seconds, container), `delete` (of the first container).
"""

import asyncio
import json
import sys
import time
from pathlib import Path

import docker
from agents.sandbox.sandboxes.docker import DockerSandboxClient, DockerSandboxClientOptions
from agents.sandbox.snapshot import LocalSnapshotSpec


class Peer:
    """One sandbox, and what is restored from its snapshot."""

    def __init__(self, settings: dict) -> None:
        self._settings = settings
        self._folder = Path(settings["folder"])
        self._client = DockerSandboxClient(docker.from_env())
        self._session = None

    async def create(self) -> dict:
        """Start a sandbox."""
        options = DockerSandboxClientOptions(
            self._settings["image"], network_mode="none", labels={self._settings["label"]: "peer"}
        )
        self._session = await self._client.create(options=options, snapshot=LocalSnapshotSpec(base_path=self._folder))
        await self._session.start()
        return {"container": self._session.state.container_id, "root": str(self._session.state.manifest.root)}

    async def take(self) -> dict:
        """Take a snapshot: `stop` does that, and leaves the container running."""
        began = time.perf_counter()
        await self._session.stop()
        seconds = time.perf_counter() - began
        return {"seconds": seconds, "bytes": sum(path.stat().st_size for path in self._folder.iterdir())}

    async def restore(self) -> dict:
        """Resume into a new container, as when the first is gone, and run a command."""
        state = self._session.state.model_copy(update={"container_id": "0" * 64})
        began = time.perf_counter()
        session = await self._client.resume(state)
        await session.start()
        result = await session.exec("true", shell=False)
        seconds = time.perf_counter() - began
        return {"seconds": seconds, "container": session.state.container_id, "ok": result.ok()}

    async def delete(self) -> dict:
        """Remove the first container."""
        docker.from_env().containers.get(self._session.state.container_id).remove(force=True)
        return {}


async def main(settings: dict) -> None:
    """Answer requests until there are no more."""
    peer = Peer(settings)
    while line := await asyncio.to_thread(sys.stdin.readline):
        print(json.dumps(await getattr(peer, json.loads(line)["do"])()), flush=True)


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.argv[1])))
