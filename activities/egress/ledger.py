"""What was decided for one sandbox, until it is told with the commands of a call."""

from collections import deque
from dataclasses import dataclass
from uuid import uuid4

from activities.ports.egress import EgressEvent
from hibernaut.models.network_change import NetworkDecision, NetworkReport

REMEMBERED = 2_000
"""Connections of which more than their number is known."""
TOLD = 20
"""Hosts and ports of one report; of more, the number of connections."""
HOST = 253
REASON = 300


@dataclass(frozen=True, slots=True)
class _Key:
    allowed: bool
    host: str
    port: int
    reason: str


class Ledger:
    """Counts from its own beginning: a mark that another one gave means all that there is."""

    def __init__(self) -> None:
        """Nothing was decided yet."""
        self._name = uuid4().hex[:12]
        self._count = 0
        self._newest: deque[_Key] = deque(maxlen=REMEMBERED)

    def note(self, event: EgressEvent) -> None:
        """Take a decision; the ends of connections are none."""
        if event.kind == "decided":
            self._count += 1
            self._newest.append(_Key(event.allowed, event.host[:HOST], event.port, event.reason[:REASON]))

    def since(self, mark: str) -> NetworkReport:
        """What was decided after a mark, each host and port once, refusals first."""
        name, _, number = mark.partition(":")
        told = int(number) if name == self._name and number.isdecimal() else 0
        fresh = max(0, self._count - told)
        counted: dict[_Key, int] = {}
        for key in list(self._newest)[max(0, len(self._newest) - fresh) :]:
            counted[key] = counted.get(key, 0) + 1
        shown = sorted(counted, key=lambda key: key.allowed)[:TOLD]
        return NetworkReport(
            decisions=tuple(
                NetworkDecision(
                    host=key.host, port=key.port, allowed=key.allowed, reason=key.reason, count=counted[key]
                )
                for key in shown
            ),
            more=fresh - sum(counted[key] for key in shown),
            mark=f"{self._name}:{self._count}",
        )
