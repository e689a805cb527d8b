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

    async def remove(self, container: str) -> bool:
        """`docker rm -f`, behind the agent's back; False when the container is not there any more."""
        argv = ["docker", "rm", "-f", container]
        answer = await self._run(argv)
        self.screen.shell(argv, answer)
        return answer.strip() == container

    async def _run(self, argv: Sequence[str]) -> str:
        pipe = asyncio.subprocess.PIPE
        try:
            process = await asyncio.create_subprocess_exec(
                *argv, stdin=asyncio.subprocess.DEVNULL, stdout=pipe, stderr=pipe
            )
        except FileNotFoundError as error:
            raise DemoError("The command `docker` is not installed.", hint="`make setup` sees to it.") from error
        output, words = await process.communicate()
        said = words.decode(errors="replace").strip()
        if process.returncode != 0 and "No such container" not in said:
            raise DemoError(f"`{' '.join(argv[:3])}` failed: {said}")
        return output.decode(errors="replace") or said
