"""The recovery ladder: from what was found to the next rung, as one table without I/O.

    needed     PLACE, ACQUIRE, RESTORE                        a host, a container, the newest snapshot in it
    lost       ASSESS                                         what became of the container?
                 running:   GO_ON
                 restarted: COLLECT, TELL                     its files are there, its processes are gone
                 gone:      PLACE, ACQUIRE, RESTORE, REPLAY, TELL
    unclaimed  PING                                           is the host there?
                 answered:  GO_ON                             it is only busy
                 silent:    RELOCATE                          any host that answers
                   same host:  ASSESS
                   other host: ACQUIRE, RESTORE, REPLAY, TELL

`GO_ON` hands the sandbox back to whoever met the trouble. What nobody can climb over ends at `PAUSE`: the agent waits,
with the reason, for a person.
"""

from collections.abc import Awaitable, Callable, Mapping
from enum import StrEnum
from types import MappingProxyType


class Rung(StrEnum):
    """What is done next; all but the last two are an activity of that name in the timeline."""

    PING = "host.ping"
    ASSESS = "sandbox.assess"
    COLLECT = "shell.exec (attach)"
    """What the journal of a restarted container knows of the commands under way."""
    RELOCATE = "placement.choose (another host)"
    PLACE = "placement.choose"
    ACQUIRE = "sandbox.acquire"
    LOAD_IMAGE = "image.load"
    RESTORE = "snapshot.restore"
    REPLAY = "shell.exec (replay)"
    TELL = "recovery report"
    GO_ON = "go on"
    PAUSE = "pause"


class Finding(StrEnum):
    """What a rung found, or what made somebody climb."""

    NEEDED = "needed"
    """There is no sandbox, and nothing was lost."""
    LOST = "lost"
    """The sandbox is gone, or is not the one it was."""
    UNCLAIMED = "unclaimed"
    """No worker of the host took the task."""
    ANSWERED = "answered"
    SILENT = "silent"
    RUNNING = "running"
    RESTARTED = "restarted"
    GONE = "gone"
    SAME_HOST = "same host"
    OTHER_HOST = "other host"
    NO_IMAGE = "no image"
    DONE = "done"
    FAILED = "failed"


_START = MappingProxyType(
    {
        Finding.NEEDED: Rung.PLACE,
        Finding.LOST: Rung.ASSESS,
        Finding.UNCLAIMED: Rung.PING,
    }
)

_NEXT: Mapping[Rung, Mapping[Finding, Rung]] = MappingProxyType(
    {
        Rung.PING: {Finding.ANSWERED: Rung.GO_ON, Finding.SILENT: Rung.RELOCATE},
        Rung.ASSESS: {
            Finding.RUNNING: Rung.GO_ON,
            Finding.RESTARTED: Rung.COLLECT,
            Finding.GONE: Rung.PLACE,
            Finding.UNCLAIMED: Rung.PING,
        },
        Rung.COLLECT: {Finding.DONE: Rung.TELL, Finding.LOST: Rung.ASSESS, Finding.UNCLAIMED: Rung.PING},
        Rung.RELOCATE: {Finding.SAME_HOST: Rung.ASSESS, Finding.OTHER_HOST: Rung.ACQUIRE},
        Rung.PLACE: {Finding.DONE: Rung.ACQUIRE},
        Rung.ACQUIRE: {
            Finding.DONE: Rung.RESTORE,
            Finding.NO_IMAGE: Rung.LOAD_IMAGE,
            Finding.LOST: Rung.PLACE,
            Finding.UNCLAIMED: Rung.PLACE,
        },
        Rung.LOAD_IMAGE: {Finding.DONE: Rung.ACQUIRE, Finding.UNCLAIMED: Rung.PLACE},
        Rung.RESTORE: {Finding.DONE: Rung.REPLAY, Finding.LOST: Rung.PLACE, Finding.UNCLAIMED: Rung.PLACE},
        Rung.REPLAY: {
            Finding.DONE: Rung.TELL,
            Finding.FAILED: Rung.TELL,
            Finding.LOST: Rung.PLACE,
            Finding.UNCLAIMED: Rung.PING,
        },
        Rung.TELL: {Finding.DONE: Rung.GO_ON},
    }
)

LAST = frozenset({Rung.GO_ON, Rung.PAUSE})


def first(finding: Finding) -> Rung:
    """The rung a climb starts at."""
    return _START[finding]


def following(rung: Rung, finding: Finding) -> Rung:
    """The rung after this one; what the table does not know is for a person to see."""
    return _NEXT[rung].get(finding, Rung.PAUSE)


Step = Callable[[], Awaitable[Finding]]


async def climb(rung: Rung, steps: Mapping[Rung, Step], taken: list[str]) -> Rung:
    """Take one rung after the other as long as there is a step for it; the rung that has none.

    Args:
        rung: Where to begin.
        steps: What carries a rung out.
        taken: Receives each rung with what it found, for the report.
    """
    while (step := steps.get(rung)) is not None:
        finding = await step()
        taken.append(f"{rung.value}: {finding.value}")
        rung = following(rung, finding)
    return rung
