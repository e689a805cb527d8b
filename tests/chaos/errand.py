"""The work an agent is given: shell calls that each leave a line in a ledger, and a model that knows how to go on."""

import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from examples.scripted_model import Call, Conversation, Reply, Step, shell

LEDGER = "/root/ledger"
LOOK = f"cut -d' ' -f1 {LEDGER} 2>/dev/null; true"
_NAME = re.compile(r'^echo "([\w.-]+(?:~\d+)?) \$\(cat /proc/sys/kernel/random/uuid\)"')
_FIRST_RESERVED = 250
"""Exit codes from here on are the wire's words for what is no exit: interrupted, unknown, not run, invalid."""
NOT_RUN = 253
REPORT = "[hibernaut] recovery report"


@dataclass(frozen=True, slots=True)
class Job:
    """One shell call of an errand. It writes a line with a number of its own for each time it is run."""

    name: str
    body: str = "true"
    """What it does after it has written its line."""
    seconds: float = 0.0
    """How long it sleeps in between when it is first asked for: time to break something."""
    fails: bool = False
    """Whether it is to end with an exit code other than 0."""

    def command(self, attempt: int) -> str:
        """The command; each time the model asks for it under a name of its own."""
        label = self.name if attempt == 1 else f"{self.name}~{attempt}"
        nap = f"; sleep {self.seconds}" if self.seconds and attempt == 1 else ""
        return f'echo "{label} $(cat /proc/sys/kernel/random/uuid)" >> {LEDGER}{nap}; {self.body}'


def label_of(call: Call) -> str | None:
    """Under which name a call was made; None for one that is no job."""
    found = _NAME.match(call.commands[0]) if call.commands else None
    return found[1] if found else None


def base(label: str) -> str:
    """The job of a label."""
    return label.partition("~")[0]


@dataclass(frozen=True, slots=True)
class Progress:
    """What a conversation says of an errand."""

    done: frozenset[str]
    attempts: Mapping[str, int]
    doubtful: bool
    """Whether something was lost since the ledger was last looked at."""
    looked: bool
    """Whether the newest thing that happened is a look at the ledger."""
    successes: int
    """Calls that ended as they should."""


@dataclass
class Errand:
    """Jobs in their order, in one or several messages: the part of the model that knows them.

    What comes next follows from the conversation alone. After a recovery report, or a result that says neither success
    nor failure, it looks at the ledger, takes that for the truth, and asks again for what is missing.
    """

    title: str
    jobs: Sequence[Job]
    messages: int = 1
    """The jobs are spread evenly over so many messages."""
    before: Mapping[int, Sequence[Step]] = field(default_factory=dict[int, Sequence[Step]])
    """What the model does, once each, before it gives the reply of this number."""
    thinking: Mapping[int, float] = field(default_factory=dict[int, float])
    """Seconds the first try of the reply of this number takes."""
    arrivals: list[tuple[float, Conversation, Progress]] = field(
        default_factory=list[tuple[float, Conversation, Progress]]
    )
    """Every request: when (seconds since the epoch), what was said, what follows from it."""
    pauses: Mapping[str, float] = field(default_factory=dict[str, float])
    """Seconds the model thinks before it asks for a job the first time."""
    considered: set[str] = field(default_factory=set[str])
    """Labels the model has been about to ask for."""
    _failures: list[Step] = field(default_factory=list[Step])
    _given: dict[int, int] = field(default_factory=dict[int, int])

    def message(self, number: int) -> str:
        """What the user writes; the first message is what the model knows the errand by."""
        return self.title if number == 1 else f"{self.title}, part {number}"

    def due(self, conversation: Conversation) -> Sequence[Job]:
        """The jobs asked for so far."""
        said = min(len(conversation.said("user")), self.messages)
        return self.jobs[: len(self.jobs) * said // self.messages]

    def answer(self, conversation: Conversation) -> str:
        """What the model says once all is done."""
        return f"{len(self.due(conversation))} jobs done"

    def next(self, conversation: Conversation) -> Step:
        """The model's move."""
        progress = self.progress(conversation)
        self.arrivals.append((time.time(), conversation, progress))
        at = conversation.replies
        given = self._given[at] = self._given.get(at, -1) + 1
        faults = self.before.get(at, ())
        if given < len(faults):
            return faults[given]
        reply = self._reply(conversation, progress)
        label = label_of(Call("", reply.calls[0].commands)) if reply.calls else None
        if label is not None and label not in self.considered:
            self.considered.add(label)
            if label in self.pauses:
                return replace(reply, text="thinking about it", delay=self.pauses[label] / 4)
        if self._failures:
            return self._failures.pop(0)
        if given == 0 and at in self.thinking:
            return replace(reply, text=f"{reply.text} thinking about it".strip(), delay=self.thinking[at] / 4)
        return reply

    def fail_next(self, *steps: Step) -> None:
        """Answer the next requests with these."""
        self._failures.extend(steps)

    def _reply(self, conversation: Conversation, progress: Progress) -> Reply:
        if progress.doubtful:
            return shell(LOOK)
        for job in self.due(conversation):
            if job.name not in progress.done:
                return shell(job.command(progress.attempts.get(job.name, 0) + 1))
        return Reply(text=self.answer(conversation)) if progress.looked else shell(LOOK)

    def progress(self, conversation: Conversation) -> Progress:
        """Read the conversation."""
        failing = {job.name for job in self.jobs if job.fails}
        done: set[str] = set()
        attempts: dict[str, int] = {}
        doubtful = looked = False
        successes = 0
        for entry in conversation.entries:
            looked = False
            if not isinstance(entry, Call):
                doubtful = doubtful or REPORT in entry.text or "The shell failed" in entry.text
                continue
            label = label_of(entry)
            code = entry.results[0].exit_code if entry.results else None
            if label is not None:
                job = base(label)
                attempts[job] = attempts.get(job, 0) + 1
                if code is not None and code < _FIRST_RESERVED and (code == 0) is not (job in failing):
                    done.add(job)
                    successes += 1
                elif code != NOT_RUN:
                    doubtful = True
            elif code == 0:
                done = {base(line) for line in entry.results[0].stdout.split()}
                doubtful, looked = False, True
        return Progress(frozenset(done), attempts, doubtful, looked, successes)


class Cast:
    """The script of the scripted model: every conversation is played by the errand of its title."""

    def __init__(self) -> None:
        self._errands: dict[str, Errand] = {}

    def add(self, errand: Errand) -> None:
        """Play it."""
        self._errands[errand.title] = errand

    def __call__(self, conversation: Conversation) -> Step:
        """The move of whom it concerns."""
        return self._errands[conversation.said("user")[0].text].next(conversation)
