"""How the command line shows snapshots, changes and progress; no server needed."""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from rich.console import Console
from rich.text import Text

from hibernaut import errors
from hibernaut.cli import snapshot_tables as tables
from hibernaut.cli.app import run
from hibernaut.cli.columns import aligned
from hibernaut.cli.console import exit_code, session, spelled
from hibernaut.cli.live import LiveLine, progress_text
from hibernaut.contracts import LiveProgress
from hibernaut.models import FileEntry, SnapshotChange, SnapshotDetail, SnapshotPath, SnapshotSummary

HOSTILE = "/\x1b[2J\x07\r\n\u202eevil\\\udcff\U000e0001"


def summary(number: int, **fields: object) -> SnapshotSummary:
    known = {
        "ref": f"agents/u/snapshots/manifests/{number:08d}",
        "parent": f"agents/u/snapshots/manifests/{number - 1:08d}" if number > 1 else None,
        "created": datetime.now(UTC) - timedelta(days=3, seconds=1),
        "kind": "delta",
        "capture": "host",
    }
    return SnapshotSummary.model_validate({"number": number, **known, **fields})


def entry(path: str = "/a", kind: str = "file", **fields: object) -> FileEntry:
    known = {"size": 10, "mode": 0o644, "uid": 0, "gid": 0, "mtime": datetime(2026, 1, 1, tzinfo=UTC)}
    return FileEntry.model_validate({"path": path, "type": kind, **known, **fields})


def test_a_path_is_spelled_on_one_line_and_exactly() -> None:
    assert spelled("/srv/caf\xe9 \u6587") == "/srv/caf\xe9 \u6587"
    assert spelled(HOSTILE) == r"/\x1b[2J\x07\r\n\u202eevil\\\xff\U000e0001"
    assert spelled("\xa0\t") == r"\u00a0\t"
    # Different names are never spelled alike.
    assert len({spelled(name) for name in ("\n", r"\n", "\\\n", "\udcff", r"\xff", "\xff", "\u00ad")}) == 7


def test_columns_are_as_wide_as_what_is_in_them() -> None:
    rows = [[Text("a"), Text("\u6587"), Text("x" * 200)], [Text("bbb"), Text("1"), Text()], [Text("note")]]
    assert aligned(rows, right={1}).plain.split("\n") == [f"a     \u6587  {'x' * 200}", "bbb    1", "note"]
    assert aligned([]).plain == ""


def test_the_list_fits_a_terminal() -> None:
    rows = [
        summary(
            12_345, newest=True, files=1_234_567, added=20_000, changed=1_234, deleted=567, bytes_new=999_900_000,
            bytes_total=123_400_000_000, duration_ms=123_456,
        ),
        summary(12_344),
        summary(12_343, damage="its digest does not match", kind="", capture="", created=None),
    ]  # fmt: skip
    shown = tables.snapshots_table(rows).plain.splitlines()
    assert [line.split()[0] for line in shown] == ["NO", "12345*", "12344", "12343"]
    assert "12344" in shown[1]
    assert ("unreadable" in shown[3], "digest" in shown[3]) == (True, False)
    assert shown[2].split()[1:3] == ["3", "d"]
    assert "NAMES" not in shown[0]
    named = tables.snapshots_table([*rows, summary(1, names=("one", "\x1b]0;two"))]).plain.splitlines()
    assert named[-1].endswith("one, \N{REPLACEMENT CHARACTER}]0;two")


def test_a_parent_of_another_agent_is_told_in_full() -> None:
    ref = "agents/other/snapshots/manifests/00000007"
    assert ref in tables.snapshots_table([summary(1, parent=ref)]).plain


def test_one_snapshot_in_full() -> None:
    packs = [
        {"key": f"packs/{digit:064x}", "size": None if digit == 11 else 100, "used": 50, "new": digit == 0}
        for digit in range(12)
    ]
    detail = SnapshotDetail.model_validate(
        {
            "snapshot": summary(3, newest=True, names=("release",), depth=2, skipped=2, duration_ms=35),
            "chain": [
                {"ref": "r", "number": number, "kind": "delta", "manifest_bytes": 500} for number in (3, 2, 1)
            ],
            "packs": packs,
            "biggest": [entry(HOSTILE)],
        }
    )  # fmt: skip
    shown = tables.detail_table(detail).plain
    assert "snapshot   3, the newest, named release\n" in shown
    assert "delta, 2 above the full one: 3 > 2 > 1 (1.5 KB of manifests)" in shown
    assert "on the host" in shown
    assert "2 sockets or overlong paths left out" in shown
    assert "reads 600 B of 12 packs" in shown
    assert "and 2 more, 1 of them missing" in shown
    assert shown.splitlines()[-1] == f"10 B  {spelled(HOSTILE)}"
    assert not [char for char in shown if char != "\n" and not char.isprintable()]
    damaged = tables.detail_table(SnapshotDetail(snapshot=summary(1), damage="The chain is broken.")).plain
    assert "damaged    The chain is broken." in damaged


def test_every_path_of_a_snapshot() -> None:
    found = [SnapshotPath(path=HOSTILE, file=None), SnapshotPath(path="/a", file=entry())]
    shown = tables.paths_table(found).plain.splitlines()
    assert shown[0].startswith("-rw-r--r--")
    assert shown[1] == f"deleted {spelled(HOSTILE)}"
    assert tables.paths_table(found[:1]).plain.startswith("deleted ")


@pytest.mark.parametrize(
    ("change", "shown"),
    [
        ({"change": "added", "after": entry()}, "+ /p  10 B"),
        ({"change": "added", "after": entry(mode=0o4755)}, "+ /p  10 B, rwsr-xr-x"),
        ({"change": "added", "after": entry(kind="directory")}, "+ /p/"),
        ({"change": "added", "after": entry(kind="symlink", target="\x1bx")}, r"+ /p  -> \x1bx"),
        ({"change": "added", "after": entry(kind="fifo")}, "+ /p  fifo"),
        ({"change": "added"}, "+ /p"),
        ({"change": "deleted"}, "- /p"),
        ({"change": "deleted", "before": entry()}, "- /p  10 B"),
        ({"what": ["content"], "after": entry(size=2000)}, "~ /p  10 B -> 2.0 KB"),
        ({"what": ["content", "time"], "after": entry()}, "~ /p  content"),
        ({"what": ["time"], "after": entry()}, "~ /p  time"),
        ({"what": ["type"], "after": entry(kind="directory")}, "~ /p/  file -> directory"),
        ({"what": ["mode", "owner"], "after": entry(mode=0o600, uid=7)}, "~ /p  mode 0644 -> 0600, owner 0:0 -> 7:0"),
        ({"what": ["target"], "after": entry(kind="symlink", target="t")}, "~ /p  -> t"),
        ({"what": ["attributes", "\x1b"], "after": entry()}, "~ /p  attributes, \N{REPLACEMENT CHARACTER}"),
    ],
)
def test_changes(change: dict[str, Any], shown: str) -> None:
    before = {"before": entry()} if change.get("what") else {}
    line = tables.change_line(SnapshotChange.model_validate({"path": "/p", "change": "changed", **before, **change}))
    assert line.plain == shown


@pytest.mark.parametrize(
    "arguments",
    [
        ["snapshots", "show"],
        ["snapshots", "diff", "x"],
        ["snapshots", "x", "--limit", "0"],
        ["snapshots", "x", "y"],
        ["snapshots", "--all"],
        ["snapshots", "diff", "x", "image"],
    ],
)
def test_usage_errors(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(arguments) == 2
    assert capsys.readouterr().err.strip()


@pytest.mark.parametrize("arguments", [["x"], ["ls", "x"], ["--all", "x"], ["ls", "show"], ["show", "x", "1"]])
def test_what_is_no_command_is_an_agent(
    arguments: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, unused_tcp_port: int
) -> None:
    monkeypatch.setenv("TEMPORAL_ADDRESS", f"127.0.0.1:{unused_tcp_port}")
    assert run(["snapshots", *arguments, "-o", "json"]) == 1
    assert json.loads(capsys.readouterr().err)["code"] == "temporal_unreachable"


def test_help_lists_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["snapshots", "--help"], ["snapshots", "-h"]):
        assert run(arguments) == 0
        shown = capsys.readouterr().out
        assert all(f"  {verb} " in shown for verb in ("ls", "show", "diff"))


def test_a_missing_snapshot_is_not_found() -> None:
    assert exit_code(errors.SnapshotMissing("")) == 3


def screen_of(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """Standard error, as something that is read back."""
    screen = io.StringIO()
    monkeypatch.setattr(session, "err", Console(file=screen, width=40, highlight=False))
    return screen


def restoring(text: str) -> LiveProgress:
    return LiveProgress(what="restore", text=text)


def test_progress_is_written_over_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    screen, line = screen_of(monkeypatch), LiveLine(over=True)
    line.show(restoring("fetched 1 of 3 MiB"))
    line.show(restoring("fetched 1 of 3 MiB"))
    line.show(restoring("fetched \x1b[2J\n" + "x" * 90))
    line.show(None)
    line.clear()
    shown = screen.getvalue()
    assert shown.split("\r\x1b[K") == [
        "restoring: fetched 1 of 3 MiB",
        "restoring: fetched \N{REPLACEMENT CHARACTER}[2J " + "x" * 14 + "\N{HORIZONTAL ELLIPSIS}",
        "",
    ]


def test_progress_elsewhere_is_a_line_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    screen, line = screen_of(monkeypatch), LiveLine(over=False)
    now = 100.0
    monkeypatch.setattr("hibernaut.cli.live.time.monotonic", lambda: now)
    line.show(LiveProgress(what="snapshot", text="over at once"))
    line.show(None)
    for step in range(25):
        now += 1
        line.show(restoring(f"fetched {step} of 30 MiB"))
    line.show(None)
    assert screen.getvalue().splitlines() == [f"restoring: fetched {step} of 30 MiB" for step in (1, 11, 21)]
    assert progress_text(restoring("")) == "restoring"
