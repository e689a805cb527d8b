"""The handle of one agent: talk to it, watch it, steer it."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable
from functools import partial
from typing import TypeVar

from hibernaut._branching import Branches
from hibernaut._budget import AgentBudget
from hibernaut._children import Kin
from hibernaut._deletion import Deletable
from hibernaut._gateway import GatewayClient, agent_path
from hibernaut._live import live_progress
from hibernaut._logs import LogReader
from hibernaut._messages import Delivery, Reply, compose, reply_of
from hibernaut._network import Networked
from hibernaut._people import People, PersonNeeded, needs_person
from hibernaut._temporal import Workflows
from hibernaut._troubles import troubles_of
from hibernaut._waiting import Every, Pace, asleep, awake, patiently, poll
from hibernaut.artifacts import AgentArtifacts
from hibernaut.contracts import BUDGET_USED_UP, SNAPSHOT_FAILED, LiveProgress
from hibernaut.errors import (
    AgentClosed,
    AgentPaused,
    HibernautError,
    Unavailable,
    WaitTimeout,
)
from hibernaut.files import AgentFiles
from hibernaut.models import (
    AgentState,
    AgentStatus,
    Answer,
    AnswerState,
    Event,
    EventKind,
    EventsPage,
    LogEntry,
    Ticket,
    Trouble,
)
from hibernaut.snapshots import AgentSnapshots

CHECK_CLOSED_EVERY = 5.0
"""Seconds between two looks at whether an agent that says nothing new is there at all."""
SETTLED = 4.0
"""Seconds after which an idle agent without a container is taken to have none on its way."""
AGAIN = 2.0
"""Seconds between two requests for a state that an agent does not take up."""


T = TypeVar("T")


class AgentHandle(People, Branches, Kin, Networked, Deletable):
    """One agent, by its id. Holding a handle holds nothing on any server; every call finds the agent's current run."""

    def __init__(self, agent_id: str, workflows: Workflows, gateway: GatewayClient) -> None:
        """Made by `AgentClient.start` and `AgentClient.get`."""
        super().__init__(agent_id, workflows, gateway)
        self.files = AgentFiles(agent_id, gateway)
        self.artifacts = AgentArtifacts(agent_id, gateway)
        self.budget = AgentBudget(agent_id, workflows)
        self.snapshots = AgentSnapshots(agent_id, gateway, workflows)

    def __repr__(self) -> str:
        return f"AgentHandle({self.id!r})"

    async def send(
        self,
        text: str,
        *,
        message_id: str | None = None,
        timeout: float | None = None,
        delivery: Delivery = "queue",
        until_asked: bool = False,
    ) -> Reply:
        """Send a message and wait for the answer: one turn of the agent.

        Args:
            text: At most 1,000,000 bytes of UTF-8.
            message_id: Sending the same id again changes nothing and waits for the same answer.
            timeout: Seconds to wait for the answer; the turn itself goes on after it.
            delivery: While a turn runs: `queue` waits for its end, `steer` becomes part of it, `interrupt` ends it.
            until_asked: Wait no longer than until the turn needs a person's consent or answer.

        Raises:
            PersonNeeded: as `until_asked` says.
            AgentPaused: the agent waits for a person, and the message with it.
            ModelRefused: the model declined.
            TurnFailed: the turn ended without an answer.
            TurnInterrupted: somebody interrupted the turn.
            WaitTimeout: no answer in time.
            AgentNotFound, AgentClosed, MessageTooLarge, InboxFull: it was not sent.
        """
        ticket = await self.post(text, message_id=message_id, delivery=delivery)
        return await self.wait(ticket.message_id, timeout=timeout, until_asked=until_asked)

    async def post(self, text: str, *, message_id: str | None = None, delivery: Delivery = "queue") -> Ticket:
        """Send a message and return as soon as it is durable; `wait` gets the answer later."""
        # The id is minted here: a request repeated because a run just ended must not become a second message.
        request = compose(text, message_id, delivery)
        return await self._workflows.update(self.id, "send", [request], Ticket)

    async def wait(self, message_id: str, *, timeout: float | None = None, until_asked: bool = False) -> Reply:
        """Wait for the answer to a message that was sent. Errors as of `send`."""
        try:
            async with asyncio.timeout(timeout):
                answer = await self._settled(message_id, until_asked=until_asked)
        except TimeoutError as error:
            held_up = ""
            with contextlib.suppress(HibernautError):
                held_up = "".join(f" {one.activity}: {one.reason}." for one in await self.troubles())
            raise WaitTimeout(
                f"Agent {self.id} gave no answer to message {message_id} within {timeout:g} s.{held_up}",
                hint="It works on; sending the same message id again waits further.",
            ) from error
        return await self._reply(answer)

    async def answer(self, message_id: str) -> Answer:
        """Where a message is on its way to an answer, without waiting."""
        return await self._workflows.query(self.id, "answer", [message_id], Answer)

    async def status(self) -> AgentStatus:
        """Everything one looks at first."""
        return await self._workflows.query(self.id, "status", [], AgentStatus)

    async def troubles(self) -> list[Trouble]:
        """What holds the agent up: activities that failed and are tried again. Needs no worker."""
        return await troubles_of(await self._workflows.describe(self.id), self._workflows.client.data_converter)

    async def progress(self) -> LiveProgress | None:
        """How far a snapshot or a restore under way has come; None when there is none. Needs no worker."""
        return await live_progress(self._workflows, self.id)

    async def events(self, since: int = 0, *, follow: bool = True) -> AsyncGenerator[Event]:
        """What happened after event number `since`, in order and without gaps.

        Args:
            since: 0 for all from the beginning; the agent's newest is `status().last_event`.
            follow: Go on with what happens from now on, until the agent is closed; else end with the newest.
        """
        pace, check = Pace(), Every(CHECK_CLOSED_EVERY)
        while True:
            page = await patiently(partial(self._events_page, since))
            if since + 1 < page.first_held and since < page.last:
                async for line in self._gateway.lines(agent_path(self.id, "events"), {"since": since}):
                    event = Event.model_validate_json(line)
                    since = event.seq
                    yield event
                continue
            for event in page.events:
                since = event.seq
                yield event
            if not follow or any(event.kind is EventKind.CLOSED for event in page.events):
                return
            if page.events:
                pace.reset()
            elif check.due() and await self._ended():
                # Once more, for what happened between the last look and the end.
                follow = False
                continue
            await pace.sleep()

    def logs(
        self, exec_id: str | None = None, *, follow: bool = False, tail: int | None = 20
    ) -> AsyncGenerator[LogEntry]:
        """What commands wrote: for each a LogStart, LogChunks and, unless it still runs, a LogEnd.

        Args:
            exec_id: This command alone, as events and log entries name it. By default the newest ones.
            follow: Go on with what is written from now on: of one command until it ended, else until the agent is
                closed. Outputs of several commands of one tool call may then take turns.
            tail: How many commands that ended come first, up to 1,000; None for all there were.

        Raises:
            OutputMissing: the agent has no command `exec_id`, or the store lacks a part of what it wrote.
        """
        reader = LogReader(self.id, self._workflows, self._gateway, partial(self.events, follow=False))
        return reader.newest(tail, follow=follow) if exec_id is None else reader.one(exec_id, follow=follow)

    async def hibernate(self, *, wait: bool = True, timeout: float | None = None) -> AgentStatus:
        """Give the container up, keep the state. Waits until that is done unless `wait` is false."""
        return await self._until("hibernate", asleep, wait=wait, timeout=timeout)

    async def wake(self, *, wait: bool = True, timeout: float | None = None) -> AgentStatus:
        """Restore the container now rather than with the next message. Waits for it unless `wait` is false."""
        return await self._until("wake", awake, wait=wait, timeout=timeout)

    async def close(self, *, wait: bool = True, timeout: float | None = None) -> AgentStatus:
        """End the agent: a last snapshot is kept, the container is not. Its files and events stay readable."""
        try:
            status = await self._request("close")
        except AgentClosed:
            return await self.status()
        if not wait:
            return status
        await self._within(timeout, self._ended, "closed")
        return await self.status()

    async def _until(
        self, name: str, reached: Callable[[AgentStatus, bool], bool], *, wait: bool, timeout: float | None
    ) -> AgentStatus:
        settled, again = Every(SETTLED), Every(AGAIN)
        status = await self._request(name)
        if not wait or reached(status, settled.due()):
            return status

        async def look() -> AgentStatus | None:
            seen = await patiently(self.status)
            if reached(seen, settled.due()):
                return seen
            if seen.state is AgentState.CLOSED:
                raise AgentClosed(f"Agent {self.id} was closed before it could {name}.", agent_id=self.id)
            stuck = name == "wake" or (seen.paused_reason or "").startswith(SNAPSHOT_FAILED)
            if stuck and seen.state is AgentState.PAUSED:
                raise self._paused(seen.paused_reason)
            if seen.state in {AgentState.IDLE, AgentState.HIBERNATED} and again.due():
                # An agent that is just falling asleep, or just taking a container, may have thought it done already.
                await self._request(name)
            return None

        return await self._within(timeout, look, f"done with {name}")

    async def _within(self, timeout: float | None, look: Callable[[], Awaitable[T | None]], what: str) -> T:
        try:
            async with asyncio.timeout(timeout):
                return await poll(look)
        except TimeoutError as error:
            raise WaitTimeout(f"Agent {self.id} was not {what} within {timeout:g} s; it goes on.") from error

    async def _settled(self, message_id: str, *, until_asked: bool) -> Answer:
        pace, check = Pace(), Every(CHECK_CLOSED_EVERY)
        while True:
            answer = await patiently(partial(self.answer, message_id))
            if answer.state not in {AnswerState.QUEUED, AnswerState.RUNNING}:
                return answer
            if answer.paused_reason is not None:
                raise self._paused(answer.paused_reason)
            if until_asked and answer.waiting is not None and needs_person(answer.waiting):
                raise PersonNeeded(self.id, answer.waiting)
            if check.due():
                await self._workflows.raise_if_closed(self.id)
            await pace.sleep()

    async def _reply(self, answer: Answer) -> Reply:
        if answer.truncated:
            answer = await self._recalled(answer.message_id)
        elif answer.state is AnswerState.UNKNOWN:
            # The workflow remembers the newest answers; the records, behind the gateway, have them all.
            with contextlib.suppress(Unavailable):
                answer = await self._recalled(answer.message_id)
        return reply_of(self.id, answer)

    async def _recalled(self, message_id: str) -> Answer:
        body = await self._gateway.get_json(agent_path(self.id, f"answers/{message_id}"))
        return Answer.model_validate(body)

    def _paused(self, reason: str | None) -> AgentPaused:
        reason = reason or "by request"
        how = "" if reason.startswith(BUDGET_USED_UP) else f"; `hibernaut resume {self.id}` goes on"
        return AgentPaused(
            f"Agent {self.id} is paused: {reason}",
            reason=reason,
            agent_id=self.id,
            hint=f"Nothing is lost{how}.",
        )

    async def _events_page(self, since: int) -> EventsPage:
        return await self._workflows.query(self.id, "events", [since], EventsPage)

    async def _ended(self) -> bool:
        """Whether the agent's last run is over. Needs no worker."""
        return not await self._workflows.is_open(self.id)
