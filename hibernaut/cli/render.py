"""What an agent is and does, drawn for a terminal."""

from datetime import UTC, datetime, timedelta

from rich.table import Table
from rich.text import Text

from hibernaut.cli.console import clean, session, size
from hibernaut.client import AgentSummary
from hibernaut.models import AgentState, AgentStatus, AnswerState, Event, EventKind, FileEntry, FileType, Trouble

STATE_STYLE = {
    AgentState.RUNNING: "bold green",
    AgentState.IDLE: "green",
    AgentState.HIBERNATED: "cyan",
    AgentState.PAUSED: "bold yellow",
    AgentState.WAITING_APPROVAL: "bold yellow",
    AgentState.RECOVERING: "bold magenta",
    AgentState.FAILED: "bold red",
    AgentState.CLOSED: "dim",
}
MARKS = {
    EventKind.STARTED: ("+", "green"),
    EventKind.MESSAGE: (">", "bold"),
    EventKind.MESSAGE_REJECTED: ("!", "bold red"),
    EventKind.TURN_STARTED: ("=", "bold"),
    EventKind.REPLY: ("<", "default"),
    EventKind.COMMAND: ("$", "default"),
    EventKind.SNAPSHOT: ("o", "dim"),
    EventKind.SANDBOX: ("#", "dim"),
    EventKind.RESTORED: ("o", "cyan"),
    EventKind.RECOVERY: ("!", "bold magenta"),
    EventKind.FILE_PUT: ("^", "default"),
    EventKind.HIBERNATED: ("z", "cyan"),
    EventKind.WOKE: ("*", "cyan"),
    EventKind.INTERRUPTED: ("!", "bold yellow"),
    EventKind.PAUSED: ("!", "bold yellow"),
    EventKind.RESUMED: ("*", "green"),
    EventKind.TURN_FINISHED: ("=", "bold"),
    EventKind.CLOSED: ("-", "dim"),
}
"""A letter that carries the meaning where colours do not."""
TYPE_LETTER = {
    FileType.FILE: "-",
    FileType.DIRECTORY: "d",
    FileType.SYMLINK: "l",
    FileType.FIFO: "p",
    FileType.DEVICE: "c",
    FileType.SOCKET: "s",
}


def event_line(event: Event, width: int | None = None) -> Text:
    """One event on one line: when, where in the work, what; cut to a terminal's width, how it ended kept."""
    mark, style = MARKS.get(event.kind, (" ", "default"))
    what, end = _told(event)
    if event.kind is EventKind.COMMAND:
        style = style if event.data.get("exit_code") == 0 else "red"
    elif event.kind is EventKind.REPLY and event.data.get("tool_calls"):
        style = "dim"
    step = f"{event.turn}.{event.step}" if event.turn else ""
    line = Text(f"{event.at.astimezone():%H:%M:%S} {step:>6} ", style="dim")
    body = Text(f"{mark} {what}", style=style)
    if width is not None:
        body.truncate(max(20, width - line.cell_len - len(end)), overflow="ellipsis")
    return line.append_text(body).append(end, style=style if style == "red" else "dim")


def _told(event: Event) -> tuple[str, str]:
    """What happened, and how it ended, which must not be cut off."""
    summary = " ".join(clean(event.summary).split())
    lasted = event.data.get("duration_ms")
    took = f" in {duration(lasted)}" if isinstance(lasted, int) else ""
    match event.kind:
        case EventKind.COMMAND:
            command = " ".join(clean(str(event.data.get("command", ""))).split())
            kind, code = event.data.get("kind"), event.data.get("exit_code")
            if not command or kind is None:
                return summary.removeprefix("$ "), ""
            return command, f"  -> {f'exit {code}' if code is not None else kind}{took}"
        case EventKind.TURN_FINISHED if event.data.get("state") == AnswerState.DONE:
            steps = event.data.get("steps")
            return f"turn {event.turn} done{took}, {_count(steps if isinstance(steps, int) else 0, 'step')}", ""
        case _:
            return summary, ""


def agents_table(agents: list[AgentSummary]) -> Table:
    """The table of `ls`."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("NAME", "STATE", "MODEL", "SINCE"):
        table.add_column(column, overflow="fold")
    for agent in agents:
        table.add_row(
            Text(clean(agent.agent_id)),
            Text(agent.state.value, style=STATE_STYLE[agent.state]),
            Text(clean(agent.model or "-")),
            Text(_ago(agent.closed_at or agent.started_at), style="dim"),
        )
    return table


def status_table(status: AgentStatus, troubles: list[Trouble], ui: str | None) -> Table:
    """Everything one looks at first, a line each."""
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="dim")
    table.add_column(overflow="fold")

    def row(name: str, value: str | Text) -> None:
        table.add_row(name, Text(clean(value)) if isinstance(value, str) else value)

    row("agent", Text(status.agent_id, style="bold"))
    row("state", Text(status.state.value, style=STATE_STYLE[status.state]))
    if status.state is AgentState.PAUSED or status.paused_reason:
        row("paused", status.paused_reason or "by request")
    for trouble in troubles:
        row("held up", Text(clean(f"{trouble.activity}, attempt {trouble.attempt}: {trouble.reason}"), style="yellow"))
    row("model", f"{status.spec.model} ({status.spec.provider})")
    working = f", now on {status.current_message_id}" if status.current_message_id else ""
    row("work", f"{_count(status.turn, 'turn')}, {_count(status.steps, 'step')}{working}, {status.inbox} waiting")
    row("tokens", f"{status.usage.input_tokens:,} in, {status.usage.output_tokens:,} out")
    if status.lease:
        row(
            "sandbox", f"{status.lease.sandbox_id[:12]} on {status.lease.host_id}, generation {status.lease.generation}"
        )
    else:
        row("sandbox", "none" if not status.generation else f"none (was generation {status.generation})")
    row("image", f"{status.spec.sandbox.image} ({status.spec.sandbox.runtime})")
    if status.snapshot:
        taken = status.snapshot
        row("snapshot", f"{taken.number}, {_ago(taken.taken_at)}: {taken.files:,} files, {size(taken.bytes_total)}")
    if status.recoveries:
        row("recoveries", str(status.recoveries))
    row("born", _ago(status.born_at))
    if ui:
        row("web UI", f"{ui.rstrip('/')}/{status.agent_id}")
    return table


def files_table(entries: list[FileEntry]) -> Table:
    """A listing as `ls -l` has it."""
    table = Table(box=None, pad_edge=False, show_header=False)
    for justify in ("left", "right", "right", "left", "left"):
        table.add_column(justify=justify, no_wrap=True)
    for entry in entries:
        name = clean(entry.path.encode("utf-8", "surrogateescape").decode("utf-8", "replace")).replace("\n", "?")
        target = f" -> {clean(entry.target)}" if entry.target else ""
        style = "bold blue" if entry.type is FileType.DIRECTORY else "default"
        table.add_row(
            Text(_mode(entry), style="dim"),
            Text(f"{entry.uid}:{entry.gid}", style="dim"),
            Text(size(entry.size) if entry.type is FileType.FILE else "-"),
            Text(f"{entry.mtime.astimezone():%Y-%m-%d %H:%M}", style="dim"),
            Text(name, style=style).append(target, style="dim"),
        )
    return table


def show_event(event: Event, *, err: bool = False) -> None:
    """Print one event, to standard error when the output belongs to something else."""
    console = session.err if err else session.out
    console.print(event_line(event, console.width if console.is_terminal else None))


def _mode(entry: FileEntry) -> str:
    bits = "".join(letter if entry.mode & (1 << (8 - place)) else "-" for place, letter in enumerate("rwxrwxrwx"))
    return TYPE_LETTER[entry.type] + bits


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def duration(milliseconds: int) -> str:
    """A span of time for people."""
    if milliseconds < 1000:  # noqa: PLR2004  # from a second on, seconds
        return f"{milliseconds} ms"
    return f"{milliseconds / 1000:.1f} s"


def _ago(moment: datetime) -> str:
    passed = max(timedelta(0), datetime.now(UTC) - moment)
    seconds = int(passed.total_seconds())
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= length:
            return f"{seconds // length} {unit} ago"
    return f"{seconds} s ago"
