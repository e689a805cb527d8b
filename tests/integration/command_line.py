"""The command line as a process of its own, with a world's addresses."""

import asyncio
import os
import sys
import uuid
from dataclasses import dataclass
from pathlib import Path

from tests.integration.gateway_world import TOKEN, World

CHECKOUT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Done:
    """What a command did."""

    code: int
    stdout: bytes
    stderr: bytes

    @property
    def out(self) -> str:
        return self.stdout.decode()

    @property
    def err(self) -> str:
        return self.stderr.decode()


class Shell:
    """Runs the command line."""

    def __init__(self, world: World, folder: Path) -> None:
        self.world = world
        self.folder = folder
        self.command = [sys.executable, "-m", "hibernaut"]
        self.name = f"agent-{uuid.uuid4().hex[:8]}"
        config = world.agents.temporal.service_client.config
        self.env = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(CHECKOUT),
            "TEMPORAL_ADDRESS": config.target_host,
            "TEMPORAL_NAMESPACE": world.agents.temporal.namespace,
            "HIBERNAUT_GATEWAY_URL": world.url,
            "HIBERNAUT_GATEWAY_TOKEN": TOKEN,
        }

    async def begin(self, *arguments: str, env: dict[str, str] | None = None) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            *self.command,
            *arguments,
            cwd=self.folder,
            env=self.env | (env or {}),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )

    async def __call__(self, *arguments: str, stdin: bytes = b"", env: dict[str, str] | None = None) -> Done:
        process = await self.begin(*arguments, env=env)
        async with asyncio.timeout(60):
            out, err = await process.communicate(stdin)
        assert process.returncode is not None
        assert b"Traceback" not in err, err.decode()
        return Done(process.returncode, out, err)
