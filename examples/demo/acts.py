"""The three acts. Each looks at real things (Docker, store, conversation) and stops when one is not as it must be."""

import asyncio
from dataclasses import dataclass

from examples.demo import follow, tasks
from examples.demo.docker import Docker
from examples.demo.errors import CheckFailed
from examples.demo.figures import Figures, Section
from examples.demo.follow import Follower
from examples.demo.material import Material
from examples.demo.screen import Screen
from hibernaut import AgentHandle, AgentState, AgentStatus
from hibernaut.models import EventKind, LeaseStatus

ANSWER_SECONDS = 600.0
"""How long an answer may take: a real model thinks."""
_SLEEP_SECONDS = 120.0
_TRIES = 3


@dataclass(frozen=True, slots=True)
class Play:
    """One agent on its way through the acts."""

    agent: AgentHandle
    screen: Screen
    follower: Follower
    docker: Docker
    data: Material
    wheel: Material
    figures: Figures

    async def first(self) -> None:
        """The agent gets its material and leaves a report."""
        self.screen.act(1, "An agent gets a computer, data and a package, and leaves a report")
        for material in (self.data, self.wheel):
            path = f"{tasks.INBOX}/{material.name}"
            await self.follower.during(self.agent.files.write(path, material.content))
        await self._ask(tasks.FIRST)
        await self._report_holds(self.figures.countries)

    async def second(self) -> None:
        """Its container is removed behind its back; the next message works all the same."""
        self.screen.act(2, "Its container is removed behind its back")
        before = await self._lose_container()
        await self._ask(tasks.SECOND)
        after = await self.agent.status()
        told = follow.notes(await self.follower.conversation(), "recovery report")
        self._check(after.recoveries > 0 and bool(told), "the model was told nothing of the loss")
        self.screen.row(
            "told", "The model read this in the conversation, behind the answer to the call that was not run:"
        )
        self.screen.quote(told[-1])
        self._check(
            after.lease is not None and after.lease.generation > before.generation,
            "the agent has no container of a later generation",
        )
        self.screen.good("the conversation holds the recovery report, and the agent has a new container")
        await self._report_holds(self.figures.countries, self.figures.heights)

    async def third(self) -> None:
        """It goes to sleep by itself, and wakes to answer what only the old computer can."""
        self.screen.act(3, "With nothing to do it hibernates; a message wakes it")
        self.screen.row("waiting", "for the agent to be idle as long as its spec says ...", "dim")
        asleep = await self.follower.during(self._asleep())
        left = await self.docker.containers()
        self._check(asleep.lease is None and not left, f"a sleeping agent still has a container: {', '.join(left)}")
        report = await self.agent.files.read_text(tasks.REPORT)
        still = await self.agent.status()
        self._check(still.state is AgentState.HIBERNATED, f"reading a file changed the agent's state to {still.state}")
        self.screen.good(
            f"it is hibernated and has no container; report.md ({len(report)} bytes) is read from the store"
        )
        await self._ask(tasks.THIRD)
        items = await self.follower.conversation()
        if told := follow.notes(items, "computer slept"):
            self.screen.row("told", "The model read this in the conversation when it woke:")
            self.screen.quote(told[-1])
        seen = follow.printed(items)
        needed = {
            "its working directory": tasks.STUDY,
            f"the variable {tasks.VARIABLE}": tasks.CSV,
            "the installed package": self.wheel.version,
        }
        for what, value in needed.items():
            self._check(value in seen, f"no command printed {value}: {what} did not survive, or nobody looked")
        self.screen.good(f"{', '.join(needed)}: printed by commands of the woken computer, as they were")
        await self._report_holds(self.figures.countries, self.figures.heights, self.figures.zones)

    async def _ask(self, text: str) -> None:
        self.screen.row("you", text, "bold")
        reply = await self.follower.during(self.agent.send(text, timeout=ANSWER_SECONDS))
        self.screen.row("answer", reply.text, "bold")

    async def _lose_container(self) -> LeaseStatus:
        """Remove the container, and be sure that it was there; an agent quicker to sleep than we are is woken."""
        for _ in range(_TRIES):
            status = await self.agent.status()
            lease = status.lease or (await self.agent.wake(timeout=_SLEEP_SECONDS)).lease
            there = await self.docker.containers()
            if lease is None or not there or not await self.docker.remove(there[0]):
                continue
            left = await self.docker.containers()
            self._check(there[0] not in left, f"container {there[0]} is still there after `docker rm -f`")
            after = await self.agent.status()
            if after.lease == lease or after.recoveries > status.recoveries:
                return lease
        raise CheckFailed("The agent had no container that could be removed.")

    async def _asleep(self) -> AgentStatus:
        """Wait until the agent hibernates, or says why it does not."""
        status = await self.agent.status()
        if status.state is AgentState.HIBERNATED:
            return status
        async with asyncio.timeout(_SLEEP_SECONDS):
            async for event in self.agent.events(self.follower.last):
                if event.kind in {EventKind.HIBERNATED, EventKind.PAUSED}:
                    break
        status = await self.agent.status()
        self._check(status.state is AgentState.HIBERNATED, f"the agent is {status.state}: {status.paused_reason}")
        return status

    async def _report_holds(self, *sections: Section) -> None:
        report = await self.agent.files.read_text(tasks.REPORT)
        for section in sections:
            missing = section.missing(report)
            self._check(not missing, f"the report's {section.name}: it lacks {'; '.join(missing[:3])}")
        names = ", ".join(section.name for section in sections)
        self.screen.good(f"report.md agrees with what this demo computed from the same CSV by itself ({names})")

    def _check(self, holds: bool, otherwise: str) -> None:  # noqa: FBT001  # a condition is what it is about
        if not holds:
            raise CheckFailed(f"{otherwise[0].upper()}{otherwise[1:]}.")
