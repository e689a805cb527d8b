"""What an agent is and does, drawn for a terminal."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from rich.table import Table
from rich.text import Text

from hibernaut._amounts import show_amount
from hibernaut.cli.columns import aligned
from hibernaut.cli.console import clean, session, size, spelled
from hibernaut.cli.rules import network_changes
from hibernaut.client import AgentSummary
from hibernaut.models import (
    AgentState,
    AgentStatus,
    AnswerState,
    ChildState,
    Event,
    EventKind,
    FileEntry,
    FileType,
    Trouble,
    Waiting,
    WaitKind,
)

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
    EventKind.TOOL: ("$", "default"),
    EventKind.ARTIFACT: ("^", "green"),
    EventKind.SNAPSHOT: ("o", "dim"),
    EventKind.SNAPSHOT_REFUSED: ("!", "bold yellow"),
    EventKind.SANDBOX: ("#", "dim"),
    EventKind.DESTROYED: ("#", "dim"),
    EventKind.RESTORED: ("o", "cyan"),
    EventKind.RECOVERY: ("!", "bold magenta"),
    EventKind.BUDGET: ("%", "bold yellow"),
    EventKind.COMPACTED: ("~", "cyan"),
    EventKind.COMPACTION_FAILED: ("!", "bold yellow"),
    EventKind.FILE_PUT: ("^", "default"),
    EventKind.NETWORK: ("@", "dim"),
    EventKind.NETWORK_CHANGED: ("@", "bold yellow"),
    EventKind.CHILD_STARTED: ("+", "green"),
    EventKind.CHILD_ENDED: ("<", "green"),
    EventKind.HIBERNATED: ("z", "cyan"),
    EventKind.WOKE: ("*", "cyan"),
    EventKind.INTERRUPTED: ("!", "bold yellow"),
    EventKind.PAUSED: ("!", "bold yellow"),
    EventKind.RESUMED: ("*", "green"),
    EventKind.WAITING: ("?", "bold yellow"),
    EventKind.DECIDED: ("*", "green"),
    EventKind.TURN_FINISHED: ("=", "bold"),
    EventKind.FORKED: ("+", "green"),
    EventKind.REWOUND: ("*", "cyan"),
    EventKind.REWIND_FAILED: ("!", "bold yellow"),
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
CAPTURED = {"host": "on the host", "api": "through the Docker API"}
"""How the files of a snapshot were reached."""


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
    parents = any(agent.parent for agent in agents)
    for column in ("NAME", "STATE", "MODEL", "SINCE", *(["PARENT"] if parents else [])):
        table.add_column(column, overflow="fold")
    for agent in agents:
        table.add_row(
            Text(clean(agent.agent_id)),
            Text(agent.state.value, style=STATE_STYLE[agent.state]),
            Text(clean(agent.model or "-")),
            Text(ago(agent.closed_at or agent.started_at), style="dim"),
            *([Text(clean(agent.parent or "-"), style="dim")] if parents else []),
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
    for name, why in _circumstances(status, troubles):
        row(name, why)
    row("model", f"{status.spec.model} ({status.spec.provider})")
    working = f", now on {status.current_message_id}" if status.current_message_id else ""
    row("work", f"{_count(status.turn, 'turn')}, {_count(status.steps, 'step')}{working}, {status.inbox} waiting")
    row("tokens", f"{status.usage.input_tokens:,} in, {status.usage.output_tokens:,} out{_perhaps(status)}")
    if status.usage.cost_micros:
        row("cost", show_amount("money", status.usage.cost_micros, status.usage.currency))
    if status.lease:
        row(
            "sandbox", f"{status.lease.sandbox_id[:12]} on {status.lease.host_id}, generation {status.lease.generation}"
        )
    else:
        row("sandbox", "none" if not status.generation else f"none (was generation {status.generation})")
    row("image", f"{status.spec.sandbox.image} ({status.spec.sandbox.runtime})")
    if status.network and (changed := network_changes(status.network)):
        row("network", changed)
    if status.snapshot:
        taken = status.snapshot
        how = f", captured {CAPTURED.get(taken.capture, taken.capture)}" if taken.capture else ""
        row("snapshot", f"{taken.number}, {ago(taken.taken_at)}: {taken.files:,} files, {size(taken.bytes_total)}{how}")
    if status.compactions:
        row("compactions", f"{status.compactions} of the conversation")
    if status.recoveries:
        row("recoveries", str(status.recoveries))
    row("born", ago(status.born_at))
    if ui:
        row("web UI", f"{ui.rstrip('/')}/{status.agent_id}")
    return table


def _circumstances(status: AgentStatus, troubles: list[Trouble]) -> Iterator[tuple[str, Text]]:
    """What keeps an agent from going on, or from going back; and where it comes from."""
    if status.forked_from:
        yield "forked from", Text(f"{status.forked_from.agent_id}, step {status.forked_from.name}")
    if status.parent:
        yield "started by", Text(clean(status.parent.agent_id))
    for child in status.children:
        if child.state is ChildState.RUNNING:
            what = f"{child.agent_id}, since {ago(child.started_at)}: {' '.join(child.task.split())}"
            yield "child", Text(clean(what))
    if status.branch:
        yield "branch", Text(str(status.branch))
    if status.rewind_failure:
        yield "not rewound", Text(clean(status.rewind_failure), style="yellow")
    if status.state is AgentState.PAUSED or status.paused_reason:
        yield "paused", Text(clean(status.paused_reason or "by request"))
    if status.waiting:
        yield "waits", Text(clean(waits_line(status.waiting)), style="bold yellow")
    for trouble in troubles:
        told = f"{trouble.activity}, attempt {trouble.attempt}: {trouble.reason}"
        yield "held up", Text(clean(told), style="yellow")


def waits_line(waiting: Waiting) -> str:
    """What an agent waits for, and since when."""
    until = f", until {waiting.until.astimezone():%Y-%m-%d %H:%M}" if waiting.until else ""
    match waiting.kind:
        case WaitKind.APPROVAL:
            what = "for consent to run: " + "; ".join(waiting.text.splitlines()) + (" …" if waiting.cut else "")
        case WaitKind.QUESTION:
            what = f"for an answer: {waiting.text}" + (f" ({' | '.join(waiting.choices)})" if waiting.choices else "")
        case WaitKind.TIME:
            what = "for a time" + (f": {waiting.text}" if waiting.text else "")
        case WaitKind.AGENT:
            what = f"for agent {waiting.agent_id}: {' '.join(waiting.text.split())}"
    return f"{what} (call {waiting.call_id}, since {ago(waiting.since)}{until})"


def files_table(entries: list[FileEntry]) -> Text:
    """A listing as `ls -l` has it."""
    rows: list[list[Text]] = []
    for entry in entries:
        target = f" -> {spelled(entry.target)}" if entry.target else ""
        style = "bold blue" if entry.type is FileType.DIRECTORY else "default"
        rows.append(
            [
                Text(mode_text(entry), style="dim"),
                Text(f"{entry.uid}:{entry.gid}", style="dim"),
                Text(size(entry.size) if entry.type is FileType.FILE else "-"),
                Text(f"{entry.mtime.astimezone():%Y-%m-%d %H:%M}", style="dim"),
                Text(spelled(entry.path), style=style).append(target, style="dim"),
            ]
        )
    return aligned(rows, right={1, 2})


def show_event(event: Event, *, err: bool = False) -> None:
    """Print one event, to standard error when the output belongs to something else."""
    console = session.err if err else session.out
    console.print(event_line(event, console.width if console.is_terminal else None))


def mode_text(entry: FileEntry) -> str:
    """Type and permissions as `ls -l` has them, set-id and sticky bits included."""
    bits = [letter if entry.mode & (1 << (8 - place)) else "-" for place, letter in enumerate("rwxrwxrwx")]
    for place, bit, letter in ((2, 0o4000, "s"), (5, 0o2000, "s"), (8, 0o1000, "t")):
        if entry.mode & bit:
            bits[place] = letter if bits[place] == "x" else letter.upper()
    return TYPE_LETTER[entry.type] + "".join(bits)


def _perhaps(status: AgentStatus) -> str:
    """What may have been paid beyond the replies that were kept."""
    estimate = status.usage_estimate
    cost = f", {show_amount('money', estimate.cost_micros, estimate.currency)}" if estimate.cost_micros else ""
    return f"; perhaps {estimate.tokens:,} more{cost}" if estimate.tokens else ""


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def duration(milliseconds: int) -> str:
    """A span of time for people."""
    if milliseconds < 1000:  # noqa: PLR2004  # from a second on, seconds
        return f"{milliseconds} ms"
    return f"{milliseconds / 1000:.1f} s"


def ago(moment: datetime) -> str:
    """How long ago something was."""
    return f"{age(moment)} ago"


def age(moment: datetime) -> str:
    """How old something is."""
    passed = max(timedelta(0), datetime.now(UTC) - moment)
    seconds = int(passed.total_seconds())
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= length:
            return f"{seconds // length} {unit}"
    return f"{seconds} s"
