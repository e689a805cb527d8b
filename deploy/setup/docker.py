"""A Docker daemon that answers: the one that is there, else one installed and started here, else a clear stop."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path

from deploy.setup import apt
from deploy.setup.console import SetupError, is_root, probe, run, say, tail

_START_SECONDS = 60.0
_SYSTEMD = Path("/run/systemd/system")
_LOG = Path("/var/log/hibernaut-dockerd.log")


def ensure_docker() -> None:
    """Make sure that `docker` reaches a daemon.

    A daemon that answers is used as it is (`DOCKER_HOST` and Docker contexts are honoured). Otherwise, as root on
    Debian or Ubuntu, the engine is installed where it is missing, and started.

    Raises:
        SetupError: No daemon answers and none can be started here.
    """
    answer = _ask()
    if answer.returncode == 0:
        say(f"Docker: using the daemon that answers (version {answer.stdout.strip()})")
        return
    _refuse_what_we_cannot_mend(answer.stderr.strip())
    if shutil.which("dockerd") is None or shutil.which("docker") is None:
        packages = ["docker.io", "iptables"]
        apt.update()
        if apt.knows("docker-cli"):
            packages.append("docker-cli")
        apt.install(packages, why="no Docker daemon answers and the engine is not installed")
    if _ask().returncode != 0:
        _start()
    say(f"Docker: daemon ready (version {_ask().stdout.strip()})")


def _ask() -> subprocess.CompletedProcess[str]:
    return probe(["docker", "version", "--format", "{{.Server.Version}}"])


def _refuse_what_we_cannot_mend(reason: str) -> None:
    host = os.environ.get("DOCKER_HOST")
    if host:
        msg = f"DOCKER_HOST is {host}, but no Docker daemon answers there ({reason}). Start it, or unset DOCKER_HOST."
        raise SetupError(msg)
    if "permission denied" in reason.lower():
        msg = (
            "a Docker daemon runs, but this user may not talk to it. Run `sudo usermod -aG docker $USER`, "
            "log in again, and repeat; or run as root."
        )
        raise SetupError(msg)
    if not is_root() or not apt.is_debian():
        where = "as root on Debian or Ubuntu this would install and start one"
        msg = f"no Docker daemon answers ({reason}), and {where}. Install Docker Engine, start it, and repeat."
        raise SetupError(msg)


def _start() -> None:
    if _SYSTEMD.is_dir():
        run(["systemctl", "start", "docker"], doing="starting the Docker daemon with systemd")
        _wait(None)
        return
    say(f"starting dockerd in the background (log: {_LOG}); it keeps running after set-up")
    with _LOG.open("ab") as log:
        daemon = subprocess.Popen(
            ["dockerd"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            cwd="/",
        )
    _wait(daemon)


def _wait(daemon: subprocess.Popen[bytes] | None) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while True:
        # Looked at before asking: one that answers and then goes is not to be taken for one that never came up.
        ended = daemon is not None and daemon.poll() is not None
        if _ask().returncode == 0:
            return
        if daemon is not None and ended:
            msg = f"dockerd stopped with exit code {daemon.returncode}. The end of {_LOG}:\n{tail(_LOG)}"
            raise SetupError(msg)
        if time.monotonic() > deadline:
            log = f"The end of {_LOG}:\n{tail(_LOG)}" if daemon else "See `journalctl -u docker`."
            msg = f"the Docker daemon does not answer within {_START_SECONDS:.0f} s. {log}"
            raise SetupError(msg)
        time.sleep(0.5)
