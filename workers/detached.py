"""Starts processes of this checkout that outlive the worker: they belong to nobody, and need no secret."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from workers.settings import CHECKOUT, HostSettings

_PASSED = ("DOCKER_", "LC_", "PYTHON", "SSL_CERT_")
_PASSED_NAMES = frozenset({"HOME", "LANG", "PATH", "TMPDIR", "TZ"})
_NOTHING: Mapping[str, str] = MappingProxyType({})
_started: list[subprocess.Popen[bytes]] = []
"""Those this process has started: held until they end, as Python complains of a child that is let go of."""


def environment(settings: HostSettings, environ: Mapping[str, str]) -> dict[str, str]:
    """What such a process is given of the worker's settings and environment."""
    passed = {name: value for name, value in environ.items() if name in _PASSED_NAMES or name.startswith(_PASSED)}
    return passed | {
        "HIBERNAUT_HOME": str(settings.home.absolute()),
        "HIBERNAUT_HOST_ID": settings.host_id,
        **({"HIBERNAUT_DOCKER_HOST": settings.docker_host} if settings.docker_host else {}),
    }


def start(
    settings: HostSettings, log: Path, module: str, *arguments: str, extra: Mapping[str, str] = _NOTHING
) -> subprocess.Popen[bytes]:
    """Start a module as a process of its own, writing to `log`; `extra` are variables it is given besides."""
    reap()
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**environment(settings, os.environ), **extra},
            cwd=CHECKOUT,
            # It goes on whatever happens to the worker, its process group and its terminal.
            start_new_session=True,
        )
    _started.append(process)
    return process


def reap() -> None:
    """Let go of those that have ended, so that they leave no entry in the process table."""
    _started[:] = [process for process in _started if process.poll() is None]
