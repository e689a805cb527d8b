"""A child of the development stack that does not behave."""

import os
import sys
from pathlib import Path

import pytest

from tests.support.devstack import processes_of, until
from workers.devstack import ChildFailed
from workers.devstack.child import Child


async def test_a_child_that_does_not_come_up_is_quoted(tmp_path: Path) -> None:
    child = child_of(tmp_path, "import sys; print('no such thing', flush=True); sys.exit(3)")
    with pytest.raises(ChildFailed, match=r"(?s)exit code 3 before it was ready.*no such thing"):
        await child.start(never, timeout=60)
    assert child.pid is None


async def test_a_child_that_will_not_stop_is_killed_with_all_it_started(tmp_path: Path) -> None:
    stubborn = (
        "import signal, subprocess, sys, time;"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN);"
        f"subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)', {str(tmp_path)!r}]);"
        "print('ready', flush=True); time.sleep(600)"
    )
    child = child_of(tmp_path, stubborn)
    log = tmp_path / "child.log"

    async def ready() -> bool:
        return log.exists() and "ready" in log.read_text(encoding="utf-8")

    await child.start(ready, timeout=60)
    assert len(processes_of(tmp_path)) == 2
    await child.stop()
    await until(lambda: processes_of(tmp_path) == [])


def child_of(folder: Path, program: str) -> Child:
    argv = [sys.executable, "-c", program, str(folder)]
    return Child(
        "child", argv, env=dict(os.environ), log=folder / "child.log", say=lambda _: None, cwd=folder, grace=0.2
    )


async def never() -> bool:
    return False
