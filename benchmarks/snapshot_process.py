"""Other programs that the benchmark of snapshots runs: timed, with their memory, or as partners of a conversation."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

_PATIENCE_S = 600

# A process's peak begins with that of the one that forks it: this one is small.
_LAUNCH = """
import json, os, sys, time
log = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
began = time.perf_counter()
actions = [(os.POSIX_SPAWN_DUP2, log, 1), (os.POSIX_SPAWN_DUP2, log, 2)]
pid = os.posix_spawnp(sys.argv[2], sys.argv[2:], os.environ, file_actions=actions)
_, status, usage = os.wait4(pid, 0)
seconds = time.perf_counter() - began
print(json.dumps([seconds, usage.ru_maxrss * 1024, os.waitstatus_to_exitcode(status)]))
"""


@dataclass(frozen=True, slots=True)
class Ended:
    """What a program took."""

    seconds: float
    peak: int
    """The most bytes that were resident in the process at once; 8 MB of it may be the launcher's."""
    output: str


def timed(argv: Sequence[str], log: Path, environment: Mapping[str, str], cwd: Path | None = None) -> Ended:
    """Run a program to its end.

    Raises:
        RuntimeError: It failed; the message holds its last words.
    """
    launch = [sys.executable, "-I", "-S", "-c", _LAUNCH, str(log), *argv]
    try:
        answer = subprocess.run(
            launch, capture_output=True, env=dict(environment), cwd=cwd, check=True, text=True, timeout=_PATIENCE_S
        )
    except subprocess.TimeoutExpired:
        msg = f"{' '.join(argv)} did not end within {_PATIENCE_S} s: see whether the Docker daemon still answers."
        raise RuntimeError(msg) from None
    seconds, peak, code = json.loads(answer.stdout)
    output = log.read_text(errors="replace")
    if code != 0:
        msg = f"{' '.join(argv)} ended with exit code {code}: {output[-2000:]}"
        raise RuntimeError(msg)
    return Ended(seconds, peak, output)


class Partner:
    """A program that answers each line of JSON with one."""

    def __init__(self, argv: Sequence[str], environment: Mapping[str, str], log: Path) -> None:
        """Start it, with these variables and no others; what it complains of goes to the log."""
        self._log = log
        with log.open("wb") as complaints:
            self._process = subprocess.Popen(
                argv,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=complaints,
                env=dict(environment),
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        questions, answers = self._process.stdin, self._process.stdout
        if questions is not None:
            questions.close()
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if answers is not None:
            answers.close()

    def ask(self, do: str, **rest: str) -> dict[str, Any]:
        """Send a request and wait for its answer.

        Raises:
            RuntimeError: The program died; the message holds its last words.
        """
        questions, answers = self._process.stdin, self._process.stdout
        if questions is None or answers is None:
            raise RuntimeError("a partner was started without pipes")
        line = b""
        try:
            questions.write(json.dumps({"do": do, **rest}).encode() + b"\n")
            questions.flush()
            line = answers.readline()
        except BrokenPipeError:
            pass
        if not line:
            msg = f"{do} failed: {self._log.read_text(errors='replace')[-3000:]}"
            raise RuntimeError(msg)
        return json.loads(line)


def clean_environment(more: Mapping[str, str]) -> dict[str, str]:
    """The variables that programs need anyway, and these."""
    kept = ("PATH", "HOME", "LANG", "TMPDIR", "DOCKER_HOST", "PYTHONPATH")
    return {**{name: os.environ[name] for name in kept if name in os.environ}, **more}
