"""How the command line speaks: text made safe for a terminal, JSON for programs, errors as sentences."""

import json
import re
import sys
from enum import StrEnum
from typing import Any

from pydantic import TypeAdapter
from rich.console import Console

from hibernaut._branching import CheckpointMissing
from hibernaut._people import PersonNeeded
from hibernaut._schedule_errors import ScheduleNotFound
from hibernaut.errors import (
    AgentNotFound,
    FileMissing,
    HibernautError,
    InvalidRequest,
    MessageUnknown,
    NamespaceNotFound,
    OutputMissing,
    SnapshotMissing,
)

FAILED = 1
USAGE = 2
NOT_FOUND = 3
NEEDS_PERSON = 4
INTERRUPTED = 130
"""128 + SIGINT, as shells have it."""

# Everything an agent writes may hold escape sequences that take over a terminal: only newline and tab pass.
# So does what cannot be seen or reorders what is read: a command that is shown for consent is the one that would run.
# Joiners and variants of emoji and of scripts that need them stay where they follow such a character.
_CONTROL = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b\u200e\u200f\u2028-\u202e"
    r"\u2060-\u206f\u3164\ufeff\uffa0\ufff0-\ufffb\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
    r"|(?<![^\x00-\x7f\u200c\u200d\ufe00-\ufe0f])(?:[\u200c\u200d]|[\ufe00-\ufe0f](?!\u20e3))"
)


_ABSENT = (
    AgentNotFound,
    CheckpointMissing,
    FileMissing,
    MessageUnknown,
    NamespaceNotFound,
    OutputMissing,
    ScheduleNotFound,
    SnapshotMissing,
)
_RAW = 0xDC00
"""Where Python puts the bytes of a name that is not UTF-8."""


class Format(StrEnum):
    """What to print."""

    TEXT = "text"
    JSON = "json"


class Session:
    """Options and consoles of one call of the command line."""

    def __init__(self) -> None:
        """Begin with the defaults; the root command fills in what was given."""
        self.format = Format.TEXT
        self.address: str | None = None
        self.namespace: str | None = None
        self.out = Console(highlight=False, soft_wrap=True, emoji=False, markup=False)
        self.err = Console(stderr=True, highlight=False, soft_wrap=True, emoji=False, markup=False)

    @property
    def json(self) -> bool:
        """Whether programs read this."""
        return self.format is Format.JSON

    def data(self, value: object) -> None:
        """Print a value as JSON: indented for people's eyes, on one line into a pipe."""
        indent = 2 if sys.stdout.isatty() else None
        sys.stdout.write(json.dumps(plain(value), indent=indent) + "\n")

    def line(self, value: object) -> None:
        """Print a value as one line of JSON, at once."""
        sys.stdout.write(json.dumps(plain(value)) + "\n")
        sys.stdout.flush()

    def text(self, text: str) -> None:
        """Print what an agent wrote: safe on a terminal, unchanged into a pipe or a file."""
        shown = clean(text) if sys.stdout.isatty() else text
        sys.stdout.write(shown if shown.endswith("\n") else shown + "\n")
        sys.stdout.flush()

    def note(self, text: str) -> None:
        """Say something beside the output."""
        self.err.print(clean(text), style="dim")

    def error(self, error: HibernautError) -> None:
        """Say what went wrong."""
        if self.json:
            body = {"code": error.code, "message": error.message, "hint": error.hint, "retryable": error.retryable}
            sys.stderr.write(json.dumps(body) + "\n")
            return
        self.err.print("error: ", style="bold red", end="")
        self.err.print(clean(error.message))
        if error.hint:
            self.err.print(clean(error.hint), style="dim")


session = Session()


def clean(text: str) -> str:
    """Text without control characters, escape sequences, what cannot be seen and what reorders what is read."""
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", text.replace("\r\n", "\n"))


def spelled(path: str) -> str:
    """A path on one line that tells it exactly: the backslash and all that cannot be printed are written as escapes."""
    return "".join(_spelled(char) for char in path)


def _spelled(char: str) -> str:
    number = ord(char)
    if char == "\\":
        return "\\\\"
    if char.isprintable():
        return char
    if _RAW <= number < _RAW + 0x100:
        return f"\\x{number - _RAW:02x}"
    if number < 0x80:  # noqa: PLR2004  # ASCII; what lies above is told from bytes by its length
        return char.encode("unicode_escape").decode()
    return f"\\u{number:04x}" if number < 0x1_0000 else f"\\U{number:08x}"  # noqa: PLR2004  # as Python and C have it


def plain(value: object) -> Any:  # noqa: ANN401  # JSON is what it is
    """JSON-like data of models and lists of models."""
    return TypeAdapter(Any).dump_python(value, mode="json")


def exit_code(error: HibernautError) -> int:
    """1 failed, 2 usage or an invalid spec, 3 not found, 4 a person is needed."""
    if isinstance(error, PersonNeeded):
        return NEEDS_PERSON
    if isinstance(error, _ABSENT):
        return NOT_FOUND
    return USAGE if isinstance(error, InvalidRequest) else FAILED


def size(count: int) -> str:
    """Bytes for people."""
    value = float(count)
    for unit in ("B", "KB", "MB", "GB"):
        if value < 1000:  # noqa: PLR2004  # decimal units, as disks are sold and Docker counts
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"
