"""Runs the tests: some folders beside the others, and for CI a second look at what failed.

`python -m tests.suites [--beside FOLDER]... [--in FOLDER]... [--second-look] [-- PYTEST_OPTION...]`

The second look is for a test that fails now and then: at most three that failed are run once more, alone. What passes
then is named as UNSTEADY, in a line of its own, and counts no more; the first failure stays where it was printed.
"""

import argparse
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import pytest

from tests.support.failures import NO_TEST

MOST = 3
"""Failures of a suite that are worth a second look: more are no accident."""


@dataclass(frozen=True)
class Ended:
    """How one pytest ended."""

    code: int
    failed: tuple[str, ...]


def main(argv: Sequence[str]) -> int:
    """Run what the arguments ask for; the exit code is pytest's, the worse one of two."""
    parser = argparse.ArgumentParser(prog="python -m tests.suites")
    parser.add_argument("--beside", action="append", default=[], help="these tests run in a process of their own")
    parser.add_argument("--in", dest="folders", action="append", default=[], help="no other tests than these")
    parser.add_argument("--second-look", action="store_true", help=f"up to {MOST} tests that failed are run once more")
    parser.add_argument("options", nargs="*", help="options for pytest, behind --")
    asked = parser.parse_args(argv)
    options: list[str] = asked.options
    with tempfile.TemporaryDirectory() as folder:
        if asked.beside:
            ended = _both([*options, *asked.folders], asked.beside, Path(folder))
        else:
            ended = [_run("all", [*options, *asked.folders], Path(folder), None)]
        code = _worst([one.code for one in ended])
        if code == pytest.ExitCode.TESTS_FAILED and asked.second_look:
            return _second_look(options, ended, Path(folder))
    return code


def _both(arguments: Sequence[str], beside: Sequence[str], folder: Path) -> list[Ended]:
    """Two at once: one prints as it goes, what the other printed follows when both have ended."""
    others: list[Ended] = []
    with (folder / "output").open("w+b") as output:
        thread = threading.Thread(
            target=lambda: others.append(_run("beside", [*arguments, *beside], folder, output)),
            name=f"tests of {', '.join(beside)}",
        )
        thread.start()
        print(f"--- {', '.join(beside)}: beside these, printed below", flush=True)
        first = _run("first", [*arguments, *(f"--ignore={one}" for one in beside)], folder, None)
        thread.join()
        print(f"\n--- {', '.join(beside)}", flush=True)
        output.seek(0)
        sys.stdout.buffer.write(output.read())
        sys.stdout.buffer.flush()
    return [first, *others]


def _run(name: str, arguments: Sequence[str], folder: Path, output: IO[bytes] | None) -> Ended:
    file = folder / name
    argv = [sys.executable, "-m", "pytest", "-p", "tests.support.failures", f"--failures-to={file}", *arguments]
    code = subprocess.run(argv, stdout=output, stderr=subprocess.STDOUT if output else None, check=False).returncode
    failed = tuple(file.read_text(encoding="utf-8").splitlines()) if file.exists() else ()
    return Ended(code, failed)


def _worst(codes: Sequence[int]) -> int:
    """A crash before a failure before nothing to run before success."""
    ran = [code for code in codes if code != pytest.ExitCode.NO_TESTS_COLLECTED]
    if not ran:
        return pytest.ExitCode.NO_TESTS_COLLECTED
    return next((code for code in ran if code not in {pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED}), max(ran))


def _second_look(options: Sequence[str], ended: Sequence[Ended], folder: Path) -> int:
    failed = [test for one in ended for test in one.failed]
    unclear = any(one.code == pytest.ExitCode.TESTS_FAILED and not one.failed for one in ended)
    if unclear or not 1 <= len(failed) <= MOST or any(one.startswith(NO_TEST) for one in failed):
        print(f"\n--- no second look: {len(failed)} failed, and it is for 1 to {MOST} tests", flush=True)
        return pytest.ExitCode.TESTS_FAILED
    print(f"\n--- A SECOND LOOK at {len(failed)} that failed", *failed, sep="\n    ", flush=True)
    again = _run("again", [*options, *failed], folder, None)
    for test in failed:
        if again.code == pytest.ExitCode.OK:
            print(f"UNSTEADY: {test} failed, and passed at the second look", flush=True)
        elif test in again.failed:
            print(f"FAILED TWICE: {test}", flush=True)
    return again.code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
