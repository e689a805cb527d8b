"""What set-up says, and how it runs other programs: progress while they run, their last words when they fail."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

ROOT = Path(__file__).resolve().parents[2]
"""The checkout."""

_TAIL_LINES = 15
_SILENT_SECONDS = 2.0
_REPORT_SECONDS = 10.0


class SetupError(Exception):
    """A step of the set-up cannot go on; the message says what failed and how to mend it."""


def say(text: str) -> None:
    """Tell the person at the terminal one thing."""
    print(f"setup: {text}", flush=True)


def cache_dir() -> Path:
    """Where set-up keeps what is costly to make again: `$HIBERNAUT_CACHE`, else `~/.cache/hibernaut`."""
    path = Path(os.environ.get("HIBERNAUT_CACHE") or Path.home() / ".cache" / "hibernaut")
    path.mkdir(parents=True, exist_ok=True)
    return path


def log_file(name: str) -> Path:
    """The file that keeps the whole output of the step `name`."""
    folder = cache_dir() / "logs"
    folder.mkdir(exist_ok=True)
    return folder / f"{name}.log"


def tail(log: Path, lines: int = _TAIL_LINES) -> str:
    """The last lines of a log, indented."""
    text = log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""
    return "\n".join(f"    {line}" for line in text.splitlines()[-lines:])


def probe(argv: Sequence[str], *, timeout: float = 10.0) -> subprocess.CompletedProcess[str]:
    """Run a quick question and return its answer.

    A missing program answers 127 and one that takes longer than `timeout` seconds 124, as in a shell.
    """
    try:
        return subprocess.run(
            list(argv),
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except FileNotFoundError:
        return subprocess.CompletedProcess(list(argv), 127, "", f"{argv[0]}: not found")
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(list(argv), 124, "", f"{argv[0]}: no answer within {timeout:.0f} s")


def run(
    argv: Sequence[str],
    *,
    doing: str,
    env: Mapping[str, str] | None = None,
    cwd: Path = ROOT,
) -> float:
    """Run one long step, telling how long it has been at it, and return the seconds it took.

    Args:
        argv: The program and its arguments.
        doing: The step in words; its first word names the log.
        env: Variables to set beside the inherited ones.
        cwd: The folder to run in.

    Raises:
        SetupError: The program is missing or exits with another code than 0.
    """
    log = log_file("".join(c if c.isalnum() else "-" for c in doing.lower())[:48].strip("-"))
    say(f"{doing} ...")
    started = reported = time.monotonic()
    with log.open("wb") as out:
        try:
            process = subprocess.Popen(
                list(argv),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                cwd=cwd,
                env={**os.environ, **(env or {})},
            )
        except FileNotFoundError:
            msg = f"{doing}: the program {argv[0]!r} is not installed."
            raise SetupError(msg) from None
        try:
            while (code := _wait(process, 0.1)) is None:
                now = time.monotonic()
                if now - reported >= _REPORT_SECONDS:
                    reported = now
                    _progress(doing, now - started, log)
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait()
    seconds = time.monotonic() - started
    if code != 0:
        msg = f"{doing}: failed with exit code {code}. The whole output is in {log}; it ends with\n{tail(log)}"
        raise SetupError(msg)
    if seconds > _SILENT_SECONDS:
        say(f"{doing}: done in {seconds:.0f} s")
    return seconds


def _wait(process: subprocess.Popen[bytes], seconds: float) -> int | None:
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        return None


def _progress(doing: str, seconds: float, log: Path) -> None:
    last = tail(log, 1).strip()
    width = 70
    say(f"  {doing}: {seconds:.0f} s so far{' | ' + last[:width] if last else ''}")


def is_root() -> bool:
    """Whether this process may install system packages."""
    return os.geteuid() == 0


def fail(error: SetupError) -> int:
    """Print why set-up stopped and return the exit code."""
    print(f"setup: stopped. {error}", file=sys.stderr, flush=True)
    return 1
