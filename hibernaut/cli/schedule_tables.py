"""Schedules, drawn for a terminal: times in the schedule's own time zone."""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from rich.text import Text

from hibernaut._amounts import show_span
from hibernaut.cli.columns import aligned
from hibernaut.cli.console import clean
from hibernaut.models.schedules import Firing, FiringState, ScheduleStatus, ScheduleSummary

SHOWN_NEXT = 5
SHOWN_TEXT = 90
STYLES = {
    FiringState.BUFFERED: "cyan",
    FiringState.RUNNING: "bold green",
    FiringState.DONE: "green",
    FiringState.FAILED: "bold red",
    FiringState.CANCELLED: "yellow",
    FiringState.TERMINATED: "yellow",
    FiringState.SKIPPED: "dim",
    FiringState.FORGOTTEN: "dim",
}


def zoned(time: datetime | None, timezone: str) -> str:
    """A moment in a time zone: `Mon 2026-11-30 09:00:00 CET`."""
    if time is None:
        return "-"
    try:
        zone = ZoneInfo(timezone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        # One that only the server knows.
        zone = ZoneInfo("UTC")
    return f"{time.astimezone(zone):%a %Y-%m-%d %H:%M:%S %Z}"


def schedules_table(schedules: Sequence[ScheduleSummary]) -> Text:
    """A schedule a line."""
    rows = [[Text(title, style="bold") for title in ("NAME", "CRON", "SENDS TO", "STATE", "LAST", "NEXT")]]
    for one in schedules:
        state = Text("paused", style="bold yellow") if one.paused else Text("active", style="green")
        target = clean(one.agent_id) if one.agent_id else "fresh agents"
        rows.append(
            [
                Text(clean(one.name)),
                Text(f"{_line(one.cron)} {_line(one.timezone)}"),
                Text(target),
                state,
                Text(zoned(one.last_at, one.timezone)),
                Text(zoned(one.next_at, one.timezone)),
            ]
        )
    return aligned(rows)


def show_schedule(status: ScheduleStatus) -> Text:
    """All of it: what, when, what comes, what was."""
    rows = [[Text(name, style="bold"), value] for name, value in _facts(status)]
    shown = aligned(rows)
    if status.recent:
        shown.append("\n\n").append_text(_firings(status))
    return shown


def _facts(status: ScheduleStatus) -> Iterable[tuple[str, Text]]:
    yield "schedule", Text(status.name)
    yield "fires", Text(f"{_line(status.cron)} {_line(status.timezone)}")
    if status.agent_id:
        yield "sends to", Text(clean(status.agent_id))
    else:
        model = _line(str((status.spec or {}).get("model", "")))
        kept = "all kept" if status.keep is None else f"{status.keep:,} kept"
        yield "sends to", Text(f"a fresh agent each time ({model}), {kept}")
    yield "message", Text(_cut(status.message))
    note = f": {_line(status.note)}" if status.note else ""
    yield "state", Text(f"paused{note}", style="bold yellow") if status.paused else Text(f"active{note}", style="green")
    limits = [f"{status.overlap.value} on overlap", f"catch-up window {duration(status.catchup_window)}"]
    if status.jitter:
        limits.append(f"jitter {duration(status.jitter)}")
    if status.run_timeout is not None:
        limits.append(f"run timeout {duration(status.run_timeout)}")
    yield "policy", Text(", ".join(limits))
    counts = [f"{status.firings:,} started"]
    if status.waiting:
        counts.append(f"{status.waiting:,} waiting for the end of another")
    if status.skipped:
        counts.append(f"{status.skipped:,} skipped for an overlap")
    if status.missed:
        counts.append(f"{status.missed:,} missed while the server was down")
    yield "firings", Text(", ".join(counts))
    upcoming = status.next[:SHOWN_NEXT]
    for number, time in enumerate(upcoming):
        yield "next" if number == 0 else "", Text(zoned(time, status.timezone))
    if not upcoming:
        yield "next", Text("none while it is paused" if status.paused else "never again", style="dim")


def _firings(status: ScheduleStatus) -> Text:
    rows = [[Text(title, style="bold") for title in ("DUE", "STARTED", "OUTCOME", "")]]
    for one in status.recent:
        late = Text("-", style="dim") if one.started_at is None else Text(_delay(one))
        rows.append(
            [
                Text(zoned(one.scheduled_at, status.timezone)),
                late,
                Text(one.state.value, style=STYLES[one.state]),
                Text(_told(one, status)),
            ]
        )
    return aligned(rows)


def _delay(firing: Firing) -> str:
    """How much later than due it started; what was backfilled, when."""
    if firing.started_at is None:
        return "-"
    late = firing.started_at - firing.scheduled_at
    return "in time" if late < timedelta(seconds=2) else f"{duration(late)} later"


def _told(firing: Firing, status: ScheduleStatus) -> str:
    text = _cut(firing.text)
    if firing.code:
        text = f"{firing.code}: {text}"
    if status.agent_id is None and firing.agent_id:
        text = f"{firing.agent_id}: {text}" if text else firing.agent_id
    return text


def duration(length: timedelta) -> str:
    """A length of time for people, to the second: `1d`, `2h30m`, `12s`."""
    return show_span(round(length.total_seconds()) * 1000)


def _cut(text: str) -> str:
    line = _line(text)
    return line if len(line) <= SHOWN_TEXT else line[: SHOWN_TEXT - 1] + "…"


def _line(text: str) -> str:
    return " ".join(clean(text).split())
