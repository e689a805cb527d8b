"""What every test session needs."""

import os
import sys

import pytest

_exit_status: list[int] = []


def pytest_sessionfinish(exitstatus: int) -> None:
    """Remember how the session ended."""
    _exit_status.append(int(exitstatus))


@pytest.hookimpl(trylast=True)
def pytest_unconfigure() -> None:
    """Leave without finalizing the interpreter.

    Threads of Temporal's runtime may call into an interpreter that is being torn down, which aborts the process after
    every test has passed (temporalio 1.35).
    """
    if _exit_status:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(_exit_status[-1])
