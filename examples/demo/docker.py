"""What a person at this machine can see and do to an agent's container: the plain `docker` command."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from activities.adapters.docker_sandbox import LABEL_AGENT, LABEL_GENERATION
from examples.demo.errors import DemoError
from examples.demo.screen import Screen


@dataclass(frozen=True, slots=True)
class Docker:
    """Runs `docker` on one agent's containers, and shows it."""

    screen: Screen
    agent_id: str

    async def containers(self) -> list[str]:
        """Ids of all containers of the agent, running or not, listed on the screen."""
        shown = '{{.ID}}  {{.Status}}  generation {{.Label "' + LABEL_GENERATION + '"}}'
        argv = ["docker", "ps", "-a", "--filter", f"label={LABEL_AGENT}={self.agent_id}"]
        listed = await self._run([*argv, "--format", shown])
        self.screen.shell(argv, listed)
        return [line.split()[0] for line in listed.splitlines()]

    async def remove(self, container: str) -> None:
        """`docker rm -f`, behind the agent's back."""
        argv = ["docker", "rm", "-f", container]
        self.screen.shell(argv, await self._run(argv))

    async def _run(self, argv: Sequence[str]) -> str:
        process = await asyncio.create_subprocess_exec(
            *argv, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
        output, words = await process.communicate()
        if process.returncode != 0:
            raise DemoError(f"`{' '.join(argv[:3])}` failed: {words.decode(errors='replace').strip()}")
        return output.decode(errors="replace")
