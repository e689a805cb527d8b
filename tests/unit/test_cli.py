"""The command line without any server: usage, errors, exit codes, what is safe on a terminal."""

import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from pydantic import JsonValue

from hibernaut import __version__, errors
from hibernaut.cli.app import run
from hibernaut.cli.console import clean, exit_code, size
from hibernaut.cli.render import event_line, files_table
from hibernaut.models import Event, EventKind, FileEntry, FileType

CHECKOUT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, unused_tcp_port: int) -> str:
    """No stack, no settings, and a Temporal address where nobody listens."""
    for name in ("HIBERNAUT_HOME", "HIBERNAUT_MODEL", "HIBERNAUT_GATEWAY_URL", "TEMPORAL_NAMESPACE"):
        monkeypatch.delenv(name, raising=False)
    address = f"127.0.0.1:{unused_tcp_port}"
    monkeypatch.setenv("TEMPORAL_ADDRESS", address)
    monkeypatch.chdir(tmp_path)
    return address


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--version"]) == 0
    assert capsys.readouterr().out == f"hibernaut {__version__}\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        ["start"],
        ["ls", "--state", "asleep"],
        ["status", "x", "-o", "xml"],
        ["follow", "x", "--since", "-1"],
        ["send", "x"],
        ["files", "cat", "x"],
        ["start", "x"],
        ["start", "x", "--spec", "none.yaml"],
        ["start", "x", "--model", "m", "--runtime", "docker"],
        ["run", "a b", "hello", "--model", "m"],
        ["files", "put", "x", "-", "/dir/"],
        ["files", "put", "x", "-", "/f", "--mode", "99"],
        ["delete", "x"],
    ],
)
def test_usage_errors_end_with_2(
    arguments: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, nowhere: str
) -> None:
    if arguments[0] == "run":
        # What is wrong with an id is seen once connected: here the connection is what fails.
        monkeypatch.setattr("hibernaut.client.connect", _no_connection)
    assert run(arguments) == 2
    shown = capsys.readouterr()
    assert shown.err.strip()
    assert "Traceback" not in shown.err
    assert nowhere not in shown.err


async def _no_connection(_: object) -> object:
    return object()


def test_an_unreachable_temporal_is_a_sentence(capsys: pytest.CaptureFixture[str], nowhere: str) -> None:
    for arguments in (["ls"], ["status", "x"], ["send", "x", "hi"], ["start", "x", "--model", "m"], ["follow", "x"]):
        assert run(arguments) == 1
        shown = capsys.readouterr().err
        assert shown.startswith(f"error: Temporal cannot be reached at {nowhere}")
        assert "make up" in shown


def test_errors_are_json_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["ls", "-o", "json"]) == 1
    shown = capsys.readouterr()
    assert shown.out == ""
    told = json.loads(shown.err)
    assert (told["code"], told["retryable"]) == ("temporal_unreachable", True)


def test_invalid_yaml_names_the_line(capsys: pytest.CaptureFixture[str]) -> None:
    Path("spec.yaml").write_text("model: m\nsandbox: [\n")
    assert run(["start", "x", "--spec", "spec.yaml"]) == 2
    assert "spec.yaml is neither YAML nor JSON at line 3" in capsys.readouterr().err


def test_an_invalid_spec_names_fields_and_allowed_values(capsys: pytest.CaptureFixture[str]) -> None:
    Path("spec.yaml").write_text("modell: m\nsandbox: {runtime: docker}\n")
    assert run(["start", "x", "-f", "spec.yaml"]) == 2
    shown = capsys.readouterr().err
    for part in ("model: is required", "modell: there is no such field", "'runc', 'runsc' or 'kata'"):
        assert part in shown


def test_the_model_may_come_from_the_environment(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HIBERNAUT_MODEL", "m")
    assert run(["start", "x"]) == 1
    assert "cannot be reached" in capsys.readouterr().err


def test_whatever_goes_wrong_is_a_sentence(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    async def broken(_: object) -> object:
        raise ZeroDivisionError("by zero")

    monkeypatch.setattr("hibernaut.client.connect", broken)
    assert run(["ls"]) == 1
    shown = capsys.readouterr().err
    assert "ZeroDivisionError: by zero" in shown
    assert "Traceback" not in shown


def test_an_interrupt_is_no_traceback(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    async def interrupted(_: object) -> object:
        raise KeyboardInterrupt

    monkeypatch.setattr("hibernaut.client.connect", interrupted)
    assert run(["ls"]) == 130
    shown = capsys.readouterr().err
    assert "Interrupted." in shown
    assert "Traceback" not in shown


def test_a_process_of_its_own_answers_in_time(nowhere: str) -> None:
    environment = {**os.environ, "PYTHONPATH": str(CHECKOUT)}
    command = [sys.executable, "-m", "hibernaut", "ls"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False, env=environment)
    assert done.returncode == 1
    assert nowhere in done.stderr


def test_help_is_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--help"]) == 0
    shown = capsys.readouterr().out
    talking = ("run", "start", "send", "follow", "logs", "status", "ls")
    for verb in (*talking, "hibernate", "wake", "interrupt", "pause", "delete"):
        assert f" {verb} " in shown
    assert run(["files", "--help"]) == 0


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.AgentNotFound("x"), 3),
        (errors.FileMissing("x"), 3),
        (errors.InvalidSpec("x"), 2),
        (errors.MessageTooLarge("x"), 2),
        (errors.AgentClosed("x"), 1),
        (errors.NoWorker("x"), 1),
    ],
)
def test_exit_codes(error: errors.HibernautError, code: int) -> None:
    assert exit_code(error) == code


def test_every_error_has_a_code_of_its_own_and_is_drawn_in_the_tree() -> None:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Exception)]
    codes = [kind.code for kind in kinds if issubclass(kind, errors.HibernautError)]
    assert len(codes) == len(set(codes)) == len(kinds)
    assert errors.__doc__ is not None
    for kind in kinds:
        assert kind.__name__ in errors.__doc__


def test_escape_sequences_do_not_reach_the_terminal() -> None:
    hostile = "a\x1b]0;owned\x07b\x1b[2Jc\x9bd\u202ee\rf"
    assert clean(hostile).isprintable()
    assert clean("two\nlines\tand ä — 漢") == "two\nlines\tand ä — 漢"
    # What cannot be seen would make another command of the one that is shown.
    for unseen in "\u200b\u200c\u200d\u2060\ufeff\u00ad\u061c\u3164\ufe0f\U000e0061\u2028":
        assert clean(f"r{unseen}m") == "r\N{REPLACEMENT CHARACTER}m", hex(ord(unseen))
    seen = "\N{FAMILY}\ufe0f \N{MAN}\u200d\N{WOMAN} 1\ufe0f\u20e3 \u0645\u06cc\u200c\u062e"
    assert clean(seen) == seen


def event(of: EventKind, summary: str, /, **data: JsonValue) -> Event:
    return Event(seq=1, at=datetime(2026, 1, 1, tzinfo=UTC), kind=of, turn=2, step=3, summary=summary, data=data)


def test_an_event_is_one_safe_line() -> None:
    line = event_line(event(EventKind.MESSAGE, "do\nthis\x1b[2J")).plain
    assert line.endswith("2.3 > do this\N{REPLACEMENT CHARACTER}[2J")


def test_a_long_command_is_cut_and_its_end_is_not() -> None:
    told = event(EventKind.COMMAND, "x", command="echo " + "x" * 500, kind="exit", exit_code=1, duration_ms=2345)
    line = event_line(told, 80).plain
    assert len(line) == 80
    assert line.endswith("…  -> exit 1 in 2.3 s")
    assert event_line(event(EventKind.COMMAND, "$ older form"), 80).plain.endswith("$ older form")


def test_the_end_of_a_turn_does_not_repeat_the_answer() -> None:
    told = event(EventKind.TURN_FINISHED, "turn 2 done: long text", state="done", steps=1, duration_ms=7)
    assert event_line(told).plain.endswith("= turn 2 done in 7 ms, 1 step")


def test_names_of_files_are_safe_too() -> None:
    def entry(path: str) -> FileEntry:
        return FileEntry(
            path=path,
            type=FileType.SYMLINK,
            size=0,
            mode=0o4755,
            uid=0,
            gid=0,
            mtime=datetime(2026, 1, 1, tzinfo=UTC),
            target="\x1b[2J",
        )

    shown = files_table([entry("/a\nb"), entry("/caf\udce9\\\u202e\x85"), entry("/" + "x" * 300)]).plain.splitlines()
    assert [line.split("  ")[-1] for line in shown] == [
        r"/a\nb -> \x1b[2J",
        r"/caf\xe9\\\u202e\u0085 -> \x1b[2J",
        "/" + "x" * 300 + r" -> \x1b[2J",
    ]
    assert shown[0].startswith("lrwsr-xr-x  0:0  -  2026-")


@pytest.mark.parametrize(
    ("count", "shown"), [(0, "0 B"), (999, "999 B"), (1000, "1.0 KB"), (2_500_000, "2.5 MB"), (3 * 10**12, "3.0 TB")]
)
def test_sizes(count: int, shown: str) -> None:
    assert size(count) == shown
