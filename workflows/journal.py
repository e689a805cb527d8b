"""The event log: a bounded tail in the workflow, the rest in the store."""

from typing import Any

from temporalio import workflow

from hibernaut.contracts import EVENTS_APPEND, AppendEventsRequest
from hibernaut.models import Event, EventKind, EventsPage
from workflows import options
from workflows.record import AgentRecord

FLUSH_AT = 100
"""Events not yet in the store before a segment is written between two steps."""
SEGMENT = 100
"""Events of one segment at most: a payload has a limit."""
TAIL = 40
"""Events still held after they were written, for whoever follows live."""
SUMMARY_LENGTH = 300


class Journal:
    """Appends events in order and hands them to the store in segments."""

    def __init__(self, record: AgentRecord) -> None:
        """Work on the tail that the record carries."""
        self._record = record

    def add(self, kind: EventKind, summary: str, /, **data: Any) -> None:  # noqa: ANN401  # JSON of any shape
        """Append one event, stamped with the workflow's clock."""
        record = self._record
        record.tick(workflow.now())
        record.last_event += 1
        line = " ".join(summary.split())
        record.events.append(
            Event(
                seq=record.last_event,
                at=workflow.now(),
                kind=kind,
                turn=record.turn,
                step=record.step,
                summary=line if len(line) <= SUMMARY_LENGTH else line[: SUMMARY_LENGTH - 1] + "…",
                data=data,
            )
        )

    def page(self, since: int) -> EventsPage:
        """The held events after `since`."""
        record = self._record
        first = record.events[0].seq if record.events else record.last_event + 1
        return EventsPage(
            events=tuple(event for event in record.events if event.seq > since),
            first_held=first,
            last=record.last_event,
        )

    @property
    def due(self) -> bool:
        """Whether enough events wait for a segment."""
        return self._record.last_event - self._record.events_kept >= FLUSH_AT

    async def flush(self, *, until: int | None = None) -> None:
        """Write what the store does not have yet, up to an event if one is named; afterwards only the tail is held."""
        record = self._record
        while fresh := self._fresh(until)[:SEGMENT]:
            kept = await options.call(
                EVENTS_APPEND,
                AppendEventsRequest(agent_uid=record.uid, events=fresh, audit=record.audit),
                summary=f"events {fresh[0].seq} to {fresh[-1].seq}",
            )
            record.events_kept = fresh[-1].seq
            # A worker of an older build wrote no lines: the next one notes the gap.
            record.audit = kept.audit or record.audit
        # Events may have been added while the segment was written.
        surplus = len([event for event in record.events if event.seq <= record.events_kept]) - TAIL
        if surplus > 0:
            del record.events[:surplus]

    def _fresh(self, until: int | None) -> tuple[Event, ...]:
        record = self._record
        last = record.last_event if until is None else until
        return tuple(event for event in record.events if record.events_kept < event.seq <= last)
