"""Command output on a terminal, and unchanged into a pipe or a file."""

import re
from typing import BinaryIO, TextIO

from hibernaut.cli.console import clean
from hibernaut.cli.render import duration
from hibernaut.models import CommandOutcome, LogChunk, LogEnd, LogEntry, LogStart, OutcomeKind

DIM, RED, RESET = "\x1b[2m", "\x1b[31m", "\x1b[0m"
_COLOUR = re.compile(r"\x1b\[[0-9;:]{0,60}m")
_UNFINISHED = re.compile(r"(\r|\x1b(\[[0-9;:]{0,60})?)\Z")


class Cleaner:
    """Makes a stream of text safe for a terminal, piece by piece.

    Colours are taken out; a carriage return, by which programs write over what they wrote, ends the line. All other
    control characters become U+FFFD.
    """

    def __init__(self) -> None:
        """Begin a stream."""
        self._held = ""

    def feed(self, text: str) -> str:
        """What of the text so far can be shown."""
        text = self._held + text
        unfinished = _UNFINISHED.search(text)
        self._held = unfinished.group() if unfinished else ""
        whole = text[: len(text) - len(self._held)]
        return clean(_COLOUR.sub("", whole).replace("\r\n", "\n").replace("\r", "\n"))

    def end(self) -> str:
        """What was held back."""
        held, self._held = self._held, ""
        return clean(held.replace("\r", "\n"))


class Sink:
    """Standard output or standard error: safe on a terminal, byte for byte elsewhere."""

    def __init__(self, file: TextIO, *, colours: bool, style: str = "") -> None:
        """On a terminal that may have colours, output is shown in `style`."""
        self.terminal = file.isatty()
        self._file = file
        self._colours = self.terminal and colours
        self._style = style
        self._cleaners: dict[str, Cleaner] = {}
        self._fresh = True

    def output(self, chunk: LogChunk) -> None:
        """What a command wrote."""
        if not self.terminal:
            self._bytes().write(chunk.data)
            self._flush(chunk.data[-1:] == b"\n" if chunk.data else self._fresh)
            return
        self._shown(self._cleaners.setdefault(chunk.exec_id, Cleaner()).feed(chunk.text))

    def end(self, exec_id: str) -> None:
        """The command writes no more."""
        cleaner = self._cleaners.pop(exec_id, None)
        if cleaner is not None:
            self._shown(cleaner.end())

    def line(self, text: str) -> None:
        """A line of our own, begun where a line begins."""
        safe = " ".join(clean(text).split())
        self._bytes().write(b"" if self._fresh else b"\n")
        self._bytes().write(f"{self._in(DIM, safe)}\n".encode("utf-8", "replace"))
        self._flush(fresh=True)

    def fresh(self) -> None:
        """Leave a terminal where a line begins."""
        if self.terminal and not self._fresh:
            self._bytes().write(b"\n")
            self._flush(fresh=True)

    def _shown(self, text: str) -> None:
        if text:
            self._bytes().write(self._in(self._style, text).encode("utf-8", "replace"))
            self._flush(text.endswith("\n"))

    def _in(self, style: str, text: str) -> str:
        return f"{style}{text}{RESET}" if style and self._colours else text

    def _flush(self, fresh: bool) -> None:  # noqa: FBT001  # what follows from what was written
        self._bytes().flush()
        self._fresh = fresh

    def _bytes(self) -> BinaryIO:
        self._file.flush()
        return self._file.buffer  # pyright: ignore[reportReturnType]  # the standard streams have one


class LogPrinter:
    """Prints log entries: a line with the command, its output, a line with its end."""

    def __init__(self, out: TextIO, err: TextIO, *, alone: bool, colours: bool) -> None:
        """Of one command `alone` nothing but its own bytes go into a pipe."""
        self._out = Sink(out, colours=colours)
        self._err = Sink(err, colours=colours, style=RED)
        self._told = self._out.terminal or not alone
        self._commands: dict[str, str] = {}
        self._current: str | None = None

    def show(self, entry: LogEntry) -> None:
        """Print one entry."""
        match entry:
            case LogStart():
                self._commands[entry.exec_id] = entry.command
                self._head(entry.exec_id)
            case LogChunk():
                self._head(entry.exec_id)
                sink, other = (self._out, self._err) if entry.stream == "stdout" else (self._err, self._out)
                other.fresh()
                sink.output(entry)
            case LogEnd():
                self._head(entry.exec_id)
                for sink in (self._out, self._err):
                    sink.end(entry.exec_id)
                self._say(ending(entry.outcome, entry.missing))
                self._commands.pop(entry.exec_id, None)
                self._current = None

    def close(self) -> None:
        """Nothing comes any more."""
        for sink in (self._out, self._err):
            sink.fresh()

    def _head(self, exec_id: str) -> None:
        """Whose output follows, unless it is that of the command shown last."""
        if self._current != exec_id:
            self._current = exec_id
            self._say(f"{exec_id} $ {self._commands.get(exec_id, '')}")

    def _say(self, text: str) -> None:
        if self._told:
            self._err.fresh()
            self._out.line(text)


def ending(outcome: CommandOutcome, missing: str = "") -> str:
    """How a command ended, on a line."""
    how = f"exit {outcome.exit_code}" if outcome.kind is OutcomeKind.EXIT else outcome.kind.value.replace("_", " ")
    took = "" if outcome.kind in {OutcomeKind.NOT_RUN, OutcomeKind.UNKNOWN} else f" in {duration(outcome.duration_ms)}"
    background = f"; still running: {', '.join(outcome.background)}" if outcome.background else ""
    detail = f" ({outcome.detail})" if outcome.detail else ""
    return f"{how}{took}{detail}{background}{f'; {missing}' if missing else ''}"
