"""One agent, one errand, one fault: played and judged by what the commands left behind and what the model was told."""

import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

from examples.scripted_model import Call, Step
from hibernaut import AgentSpec
from hibernaut.agent import AgentHandle
from hibernaut.errors import HibernautError
from hibernaut.models import EventKind
from tests.chaos.errand import LOOK, REPORT, Errand, Job, label_of
from tests.chaos.witness import Witness
from tests.chaos.world import MACHINE_DOCKER, ChaosWorld, soon

UNKNOWN = 252


@dataclass(frozen=True, slots=True)
class FaultResult:
    """What became of one run of a fault."""

    fault: str
    survived: bool
    """The turn's answer came, once, and all the work it speaks of is there."""
    commands_twice: int
    """Commands that were run more often than the model asked for them."""
    calls_lost: int
    """Tool calls whose work was lost, or of which nobody knows."""
    told: bool
    """Whether the model was told of each of them."""
    seconds: float | None
    """From the fault to the next tool call that ended as it should and was in the model's hands."""
    leaked: int = 0
    """Containers left when the agent was closed."""
    why: str = ""
    """What went wrong, for people."""


@dataclass(frozen=True, slots=True)
class FaultCase:
    """A fault, and what is allowed to be lost by it."""

    title: str
    play: "Callable[[Trial], Awaitable[None]]"
    """Sends the messages and breaks something."""
    lost: int = 0
    """Tool calls whose work is lost: exactly so many."""
    jobs: Sequence[Job] = (Job("c1"), Job("c2"), Job("c3"))
    messages: int = 1
    before: Mapping[int, Sequence[Step]] = field(default_factory=dict[int, Sequence[Step]])
    thinking: Mapping[int, float] = field(default_factory=dict[int, float])
    spec: Mapping[str, Any] = field(default_factory=dict[str, Any])
    patience: float = 150.0
    """Seconds the answer may take once everything is whole again."""
    leaks: bool = False
    """Whether a container may be left: on a host that is gone for good."""

    @property
    def name(self) -> str:
        """A short name, for test ids."""
        return str(getattr(self.play, "__name__", self.title))


class Trial:
    """A running case."""

    def __init__(self, world: ChaosWorld, case: FaultCase) -> None:
        """Prepare."""
        self.world = world
        self.case = case
        self.errand = Errand(
            title=f"errand {uuid4().hex[:8]}: {case.title}",
            jobs=case.jobs,
            messages=case.messages,
            before=case.before,
            thinking=case.thinking,
        )
        self.messages: list[str] = []
        self._answers: dict[str, str] = {}
        self._agent: AgentHandle | None = None
        self._witness: Witness | None = None
        self._hit: float | None = None
        self._known = 0
        self.uid = ""

    @property
    def agent(self) -> AgentHandle:
        """The agent."""
        if self._agent is None:
            raise RuntimeError("the trial has not begun")
        return self._agent

    @property
    def witness(self) -> Witness:
        """Who sees what the commands do."""
        if self._witness is None:
            raise RuntimeError("the trial has not begun")
        return self._witness

    async def post(self) -> None:
        """Send the next message."""
        number = len(self.messages) + 1
        ticket = await self.agent.post(self.errand.message(number))
        self.messages.append(ticket.message_id)

    async def answered(self) -> str:
        """Wait for the answer to the newest message."""
        newest = self.messages[-1]
        if newest not in self._answers:
            self._answers[newest] = (await self.agent.wait(newest, timeout=self.case.patience)).text
        return self._answers[newest]

    async def begun(self, label: str) -> None:
        """Wait until a command has written its line."""
        await soon(lambda: self.witness.ran(label), f"command {label} is begun", self.case.patience)

    async def asked(self, replies: int) -> None:
        """Wait until the model is asked for the reply of this number, counted from 0."""
        await soon(
            lambda: any(said.replies >= replies for _, said, _ in self.errand.arrivals),
            f"the model is asked for reply {replies}",
        )

    async def considered(self, label: str) -> None:
        """Wait until the model is about to ask for a job."""
        await soon(lambda: label in self.errand.considered, f"the model thinks of {label}", self.case.patience)

    async def durable(self, label: str) -> None:
        """Wait until a command's work is in a snapshot."""

        async def taken() -> bool:
            page = await self.agent._events_page(max(0, (await self.agent.status()).last_event - 200))
            ran = [event.seq for event in page.events if f'"{label} ' in str(event.data.get("command"))]
            kept = [event.seq for event in page.events if event.kind is EventKind.SNAPSHOT]
            return bool(ran and kept) and kept[-1] > ran[-1]

        await soon(taken, f"the work of {label} is in a snapshot")

    async def container(self) -> str:
        """Id of the agent's container."""
        status = await self.agent.status()
        if status.lease is None:
            raise AssertionError("the agent holds no container")
        return status.lease.sandbox_id

    def hit(self) -> None:
        """The fault happens now."""
        self._hit = time.time()
        self._known = max((progress.successes for _, _, progress in self.errand.arrivals), default=0)

    @property
    def seconds(self) -> float | None:
        """From the fault to the next success the model was shown."""
        if self._hit is None:
            return None
        for at, _, progress in self.errand.arrivals:
            if at > self._hit and progress.successes > self._known:
                return at - self._hit
        return None

    async def run(self) -> FaultResult:
        """Play the case and judge it. What the engine does wrong is in the result; it raises nothing for that."""
        self.world.cast.add(self.errand)
        spec = {"model": self.world.model.model, "idle_timeout": 600, **self.case.spec}
        self._agent = await self.world.client.start(f"chaos-{uuid4().hex[:8]}", AgentSpec.model_validate(spec))
        self.uid = (await self.agent.status()).agent_uid
        text, wrong = "", ""
        async with Witness((self.world.dockerd.host, MACHINE_DOCKER), self.uid) as self._witness:
            try:
                await self.case.play(self)
                text = await self.answered()
            except (HibernautError, AssertionError, RuntimeError) as error:
                wrong = f"{type(error).__name__}: {error}"
            await self.world.mend()
            self.witness.look()
            return await self._judge(text, wrong)

    async def _judge(self, text: str, wrong: str) -> FaultResult:
        faults = [wrong] if wrong else []
        seconds = self.seconds
        ledger, told_of = set[str](), set[str]()
        lost: set[str] = set()
        try:
            if not wrong:
                faults += await self._conversation(text)
            ledger, told_of = self._said()
            lost = {label for label in self.witness.runs if label not in ledger} | self._unknown()
            leaked = await self._close()
        except (HibernautError, AssertionError) as error:
            faults.append(f"{type(error).__name__}: {error}")
            leaked = len(self.world.containers(self.uid))
        self.world.sweep(self.uid)
        if leaked and not self.case.leaks:
            faults.append(f"{leaked} containers are left")
        twice = {label: runs for label, runs in self.witness.runs.items() if runs > 1}
        if twice:
            faults.append(f"run more than once: {twice}")
        if untold := lost - told_of:
            faults.append(f"lost and not told: {sorted(untold)}")
        return FaultResult(
            fault=self.case.title,
            survived=bool(text) and not faults,
            commands_twice=sum(runs - 1 for runs in twice.values()),
            calls_lost=len(lost) if text else len(self.case.jobs),
            told=bool(text) and not untold,
            seconds=round(seconds, 2) if seconds is not None else None,
            leaked=leaked,
            why="; ".join(faults),
        )

    def _said(self) -> tuple[set[str], set[str]]:
        """Labels in the ledger as the model saw it last, and those it was told of as lost or unknown."""
        if not self.errand.arrivals:
            return set(), set()
        conversation = max((said for _, said, _ in self.errand.arrivals), key=lambda said: len(said.entries))
        looks = [call for call in conversation.calls if call.commands == (LOOK,) and call.results]
        ledger = set(looks[-1].results[0].stdout.split()) if looks else set[str]()
        reports = "\n".join(note for note in conversation.notes if REPORT in note)
        told = {label for label in self.witness.runs if f'"{label} ' in reports} | self._unknown()
        return ledger, told

    def _unknown(self) -> set[str]:
        """Labels of the calls that were answered as `unknown`."""
        found: set[str] = set()
        for _, conversation, _ in self.errand.arrivals:
            for call in conversation.calls:
                label = label_of(call)
                if label and call.results and call.results[0].exit_code == UNKNOWN:
                    found.add(label)
        return found

    async def _conversation(self, text: str) -> list[str]:
        """What is wrong with the conversation that is kept, and with the answers."""
        status = await self.agent.status()
        items = await self.world.items(status.transcript_ref)
        calls = Counter(item["call_id"] for item in items if item.get("type") == "shell_call")
        answers = Counter(item["call_id"] for item in items if item.get("type") == "shell_call_output")
        asked = Counter(label for item in items if (label := _label(item)))
        users = [item for item in items if item.get("role") == "user"]
        last = items[-1] if items else {}
        expected = f"{len(self.case.jobs)} jobs done"
        page = await self.agent._events_page(max(0, status.last_event - 200))
        ends = Counter(event.data["message_id"] for event in page.events if event.kind is EventKind.TURN_FINISHED)
        checks = {
            f"the answer is {text!r}, not {expected!r}": text == expected,
            "a call has no answer or several": calls == answers and set(calls.values()) <= {1},
            "a command was asked for twice": set(asked.values()) <= {1},
            f"{len(users)} messages of the user instead of {len(self.messages)}": len(users) == len(self.messages),
            "the conversation does not end in the answer": last.get("role") == "assistant" and text in str(last),
            f"a message was answered more than once: {ends}": set(ends.values()) <= {1},
            "the last message was not answered": ends[self.messages[-1]] == 1,
            f"the agent is {status.state}": status.inbox == 0,
        }
        return [complaint for complaint, good in checks.items() if not good]

    async def _close(self) -> int:
        await self.agent.close(timeout=90)
        return len(self.world.containers(self.uid))


def _label(item: Mapping[str, Any]) -> str | None:
    if item.get("type") != "shell_call":
        return None
    return label_of(Call("", tuple(item["action"]["commands"])))


CASES: list[FaultCase] = []
"""Every fault, in the order in which they are tried."""


def fault(title: str, **case: Any) -> Callable[[Callable[[Trial], Awaitable[None]]], FaultCase]:  # noqa: ANN401
    """Make a case of the function that plays it, and put it into the list."""

    def make(play: Callable[[Trial], Awaitable[None]]) -> FaultCase:
        made = FaultCase(title=title, play=play, **case)
        CASES.append(made)
        return made

    return make
