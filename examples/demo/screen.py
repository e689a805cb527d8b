"""What the demo prints: acts, what the agent does, what was checked. The same on a terminal and in a file."""

import sys
import textwrap
from collections.abc import Sequence

from rich.console import Console
from rich.text import Text

from hibernaut.cli.console import clean, size
from hibernaut.models import Event, EventKind

_WIDTH = 100
_INDENT = 2
_OUTPUT_LINES = 4
_TOGETHER = "\N{NO-BREAK SPACE}"
_NAME = 10
"""Width of the column that says who or what a line is about."""


class Screen:
    """Prints; every text of an agent is made safe for a terminal first."""

    def __init__(self) -> None:
        """Write to standard output, at most 100 columns wide."""
        plain = Console()
        width = min(plain.width, _WIDTH) if sys.stdout.isatty() else _WIDTH
        self._console = Console(width=width, highlight=False, markup=False, emoji=False)
        self._width = width

    def title(self, text: str) -> None:
        """The first line."""
        self._line(text, "bold")

    def act(self, number: int, text: str) -> None:
        """An act begins."""
        self._line("")
        self._line(f"Act {number}  {text}", "bold cyan")
        self._line("-" * min(self._width, len(text) + 7), "dim")

    def heading(self, text: str) -> None:
        """A part that is no act."""
        self._line("")
        self._line(text, "bold cyan")
        self._line("-" * min(self._width, len(text)), "dim")

    def row(self, name: str, text: str, style: str = "", *, lines: int = 12) -> None:
        """A line of its own column; long texts are wrapped, and cut after some lines."""
        room = self._width - _INDENT - _NAME
        wrapped = _wrapped(text, room, lines)
        for number, part in enumerate(wrapped):
            line = Text(" " * _INDENT)
            line.append(f"{name if number == 0 else '':<{_NAME}}", style="dim")
            line.append(part.replace(_TOGETHER, " "), style=style)
            self._console.print(line, soft_wrap=True)

    def output(self, text: str, *, lines: int = _OUTPUT_LINES) -> None:
        """What a program printed, indented under its command; its first lines."""
        room = self._width - _INDENT - _NAME - 2
        shown = [line.expandtabs(4) for line in clean(text).splitlines() if line.strip()]
        for line in shown[:lines]:
            cut = line if len(line) <= room else line[: room - 3] + "..."
            self._line(f"{'':<{_INDENT + _NAME}}  {cut}", "dim")
        if len(shown) > lines:
            self._line(f"{'':<{_INDENT + _NAME}}  ...", "dim")

    def quote(self, text: str) -> None:
        """A text word for word."""
        room = self._width - _INDENT - _NAME - 2
        for line in clean(text).splitlines():
            for part in textwrap.wrap(line, room, break_long_words=False, break_on_hyphens=False) or [""]:
                self._line(f"{'':<{_INDENT + _NAME}}| {part}", "yellow")

    def document(self, text: str) -> None:
        """A whole document, as it is."""
        for line in clean(text).splitlines():
            self._line(f"{'':<{_INDENT}}{line}")

    def shell(self, argv: Sequence[str], output: str) -> None:
        """A command that the demo ran on this machine, with what it printed."""
        self.row("shell", f"$ {' '.join(argv)}", "bold")
        self.output(output or "(nothing)")

    def good(self, text: str) -> None:
        """Something was checked and holds."""
        self.row("checked", text, "green")

    def bad(self, text: str) -> None:
        """Something failed."""
        self.row("FAILED", text, "bold red")

    def event(self, event: Event) -> None:
        """One thing the agent did, or that was done for it."""
        data = event.data
        match event.kind:
            case EventKind.COMMAND:
                self._command(event)
            case EventKind.REPLY if data.get("tool_calls") and data.get("text_head"):
                self.row("model", str(data["text_head"]))
            case EventKind.SNAPSHOT | EventKind.RESTORED | EventKind.SANDBOX | EventKind.FILE_PUT:
                self.row(*told(event), "dim")
            case EventKind.RECOVERY | EventKind.HIBERNATED | EventKind.PAUSED | EventKind.MESSAGE_REJECTED:
                self.row(*told(event), "bold magenta")
            case _:
                pass

    def _command(self, event: Event) -> None:
        data = event.data
        first, *rest = str(data["command"]).splitlines()
        more = f" ... ({len(rest)} more lines)" if rest else ""
        ended = f"exit {data['exit_code']}" if data["kind"] == "exit" else str(data["kind"]).replace("_", " ")
        good = data["kind"] == "exit" and data["exit_code"] == 0
        milliseconds = int(str(data["duration_ms"]))
        end = f"[{ended}, {milliseconds / 1000:.1f} s]".replace(" ", _TOGETHER)
        self.row("agent", f"$ {first}{more}  {end}", "" if good else "red")
        self.output(str(data["stdout_head"]))
        if not good:
            self.output(str(data["stderr_head"]))

    def _line(self, text: str, style: str = "") -> None:
        self._console.print(Text(text, style=style), soft_wrap=True)


def _wrapped(text: str, room: int, lines: int) -> list[str]:
    """Lines of words; an address or a path stays whole, however long."""
    return textwrap.wrap(
        clean(text), room, max_lines=lines, placeholder=" ...", break_long_words=False, break_on_hyphens=False
    ) or [""]


def told(event: Event) -> tuple[str, str]:
    """A name and a sentence for an event."""
    data = event.data

    def number(field: str) -> int:
        return int(str(data.get(field) or 0))

    match event.kind:
        case EventKind.SNAPSHOT:
            changed = f"+{number('added')} ~{number('changed')} -{number('deleted')} files"
            took = f"{size(number('bytes_new'))} new, {number('duration_ms')} ms"
            return "snapshot", f"{number('number')}: {changed}, {took}"
        case EventKind.RESTORED:
            took = f"{number('files')} files, {size(number('bytes'))}, {number('duration_ms')} ms"
            return "restored", f"snapshot {number('number')}: {took}"
        case EventKind.SANDBOX:
            made = f"{str(data['sandbox_id'])[:12]}, generation {data['generation']}"
            return "container", f"{made}: created in {number('duration_ms')} ms"
        case EventKind.FILE_PUT:
            return "file", f"{data['path']}, {size(number('size'))}"
        case EventKind.TURN_FINISHED:
            seconds = number("duration_ms") / 1000
            return "turn", f"{event.turn}: {data['state']} after {number('steps')} model calls, {seconds:.1f} s"
        case EventKind.RECOVERY:
            return "recovery", event.summary
        case EventKind.HIBERNATED:
            return "asleep", event.summary
        case _:
            return event.kind.value.replace("_", " "), event.summary
