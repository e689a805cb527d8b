"""How the command line shows what commands wrote: safe on a terminal, byte for byte elsewhere."""

import io
import itertools

import pytest

from hibernaut.cli.app import run
from hibernaut.cli.transcribe import Cleaner, LogPrinter, ending
from hibernaut.models import CommandOutcome, LogChunk, LogEnd, LogEntry, LogStart

HOSTILE = "\x1b]0;owned\x07\x1b[2J\x1b[31mred\x1b[0m\x9b5n\x08\x00\u202edone\x1b"


class Screen(io.TextIOWrapper):
    """A stream that says what it is, and keeps what is written."""

    def __init__(self, *, terminal: bool) -> None:
        super().__init__(io.BytesIO(), encoding="utf-8")
        self._terminal = terminal

    def isatty(self) -> bool:
        return self._terminal

    @property
    def content(self) -> bytes:
        self.flush()
        assert isinstance(self.buffer, io.BytesIO)
        return self.buffer.getvalue()


def chunk(data: bytes, stream: str = "stdout", exec_id: str = "e-i0") -> LogChunk:
    text = data.decode("utf-8", "replace")
    return LogChunk.model_validate({"exec_id": exec_id, "stream": stream, "offset": 0, "text": text, "data": data})


def outcome(**fields: object) -> CommandOutcome:
    known = {"exec_id": "e-i0", "command": "make", "kind": "exit", "exit_code": 0, "duration_ms": 12}
    return CommandOutcome.model_validate({**known, **fields})


def show(
    *entries: LogEntry, out: bool = True, err: bool = True, colours: bool = False, alone: bool = False
) -> tuple[bytes, bytes]:
    """What is written to standard output and standard error, each a terminal or not."""
    screens = Screen(terminal=out), Screen(terminal=err)
    printer = LogPrinter(*screens, alone=alone, colours=colours)
    for entry in entries:
        printer.show(entry)
    printer.close()
    return screens[0].content, screens[1].content


START, END = LogStart(exec_id="e-i0", command="make"), LogEnd(exec_id="e-i0", outcome=outcome())


def test_a_command_on_a_terminal() -> None:
    entries = START, chunk(b"built\n"), chunk(b"a warning\n", "stderr"), chunk(b"no newline"), END
    out, err = show(*entries, colours=True)
    assert out == b"\x1b[2me-i0 $ make\x1b[0m\nbuilt\nno newline\n\x1b[2mexit 0 in 12 ms\x1b[0m\n"
    assert err == b"\x1b[31ma warning\n\x1b[0m"
    assert show(*entries) == (b"e-i0 $ make\nbuilt\nno newline\nexit 0 in 12 ms\n", b"a warning\n")


def test_nothing_hostile_reaches_a_terminal() -> None:
    start = LogStart(exec_id="e-i0", command=f"echo {HOSTILE}\necho two")
    end = LogEnd(exec_id="e-i0", outcome=outcome(detail=HOSTILE, background=(HOSTILE,)))
    for shown in show(start, chunk(HOSTILE.encode()), chunk(HOSTILE.encode(), "stderr"), end):
        assert shown.decode().replace("\n", "").isprintable(), shown
        assert b"done" in shown
        assert b"owned" in shown


def test_into_a_pipe_one_command_goes_byte_for_byte() -> None:
    every = bytes(range(256)) + HOSTILE.encode()
    entries = START, chunk(every), chunk(every[::-1], "stderr"), chunk(b"\xc3"), chunk(b"\xa4"), END
    assert show(*entries, out=False, err=False, alone=True) == (every + b"\xc3\xa4", every[::-1])


def test_into_a_pipe_several_commands_are_told_apart() -> None:
    other = LogStart(exec_id="e-i1", command="ls")
    failed = outcome(exec_id="e-i1", exit_code=2, duration_ms=2300)
    entries = (
        *(START, chunk(b"\x1b[31mraw\xff"), END),
        *(other, chunk(b"none\n", "stderr", "e-i1"), LogEnd(exec_id="e-i1", outcome=failed, missing="Not whole.")),
    )
    out, err = show(*entries, out=False, err=False)
    assert out == b"e-i0 $ make\n\x1b[31mraw\xff\nexit 0 in 12 ms\ne-i1 $ ls\nexit 2 in 2.3 s; Not whole.\n"
    assert err == b"none\n"


def test_each_stream_is_treated_as_what_it_is() -> None:
    out, err = show(START, chunk(b"a\x1b[2J"), chunk(b"b\x1b[2J", "stderr"), END, err=False, alone=True)
    assert out.decode() == "e-i0 $ make\na\N{REPLACEMENT CHARACTER}[2J\nexit 0 in 12 ms\n"
    assert err == b"b\x1b[2J"


def test_commands_that_take_turns_are_named_anew() -> None:
    other = LogStart(exec_id="e-i1", command="ls")
    out, _ = show(START, chunk(b"1\n"), other, chunk(b"2\n", exec_id="e-i1"), chunk(b"3\n"), END)
    assert out == b"e-i0 $ make\n1\ne-i1 $ ls\n2\ne-i0 $ make\n3\nexit 0 in 12 ms\n"


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("10 %\r20 %\r\ndone\n", "10 %\n20 %\ndone\n"),
        ("\x1b[1;38;5;9mbold\x1b[m plain", "bold plain"),
        ("\x1b[31", "\N{REPLACEMENT CHARACTER}[31"),
        ("\r", "\n"),
        ("\x1b\x1b[0m!", "\N{REPLACEMENT CHARACTER}!"),
        ("\x1b[" + "1;" * 80 + "m", "\N{REPLACEMENT CHARACTER}[" + "1;" * 80 + "m"),
        ("tab\tand ä — 漢\n", "tab\tand ä — 漢\n"),
    ],
)
def test_cleaning_is_the_same_wherever_the_pieces_end(written: str, shown: str) -> None:
    for first, second in itertools.combinations_with_replacement(range(len(written) + 1), 2):
        cleaner = Cleaner()
        pieces = (written[:first], written[first:second], written[second:])
        assert "".join([*(cleaner.feed(piece) for piece in pieces), cleaner.end()]) == shown


@pytest.mark.parametrize(
    ("fields", "line"),
    [
        ({}, "exit 0 in 12 ms"),
        ({"kind": "timeout", "exit_code": None, "duration_ms": 60_000}, "timeout in 60.0 s"),
        ({"kind": "not_run", "exit_code": None}, "not run"),
        (
            {"kind": "unknown", "exit_code": None, "detail": "the container restarted"},
            "unknown (the container restarted)",
        ),
        ({"background": ("12 sleep", "13 nc")}, "exit 0 in 12 ms; still running: 12 sleep, 13 nc"),
    ],
)
def test_how_a_command_ended(fields: dict[str, object], line: str) -> None:
    assert ending(outcome(**fields)) == line


@pytest.mark.parametrize(
    "arguments", [["logs"], ["logs", "x", "--tail", "-1"], ["logs", "x", "--tail", "5", "--exec", "e-i0"]]
)
def test_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(arguments) == 2
    assert capsys.readouterr().err.strip()
