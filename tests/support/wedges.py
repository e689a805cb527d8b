"""Commands that start just as a container is frozen: what the daemon then cannot tell of it, nor let go on."""

from __future__ import annotations

import contextlib
import threading
import time
from typing import TYPE_CHECKING

from docker.errors import APIError

from activities.adapters.cgroup_freezer import freeze, freezer_of, let_go
from activities.adapters.docker_client import Daemon

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

_TRIES = 20
_AT_ONCE = 3


def answers(container_id: str, seconds: float = 10.0) -> bool:
    """Whether the daemon tells of a container within that time."""
    answered = threading.Event()

    def ask() -> None:
        with contextlib.suppress(APIError):
            Daemon().api.inspect_container(container_id)
            answered.set()

    threading.Thread(target=ask, daemon=True).start()
    return answered.wait(seconds)


@contextlib.contextmanager
def commands(container_id: str) -> Generator[None]:
    """Start commands in a container all the time; nobody is kept waiting by it afterwards."""
    daemon = Daemon()
    file = _freezer(daemon, container_id)
    stop = threading.Event()

    def start() -> None:
        while not stop.is_set():
            with contextlib.suppress(APIError):
                made = daemon.api.exec_create(container_id, ["true"])
                daemon.api.exec_start(made["Id"])
            time.sleep(0.01)

    threads = [threading.Thread(target=start, daemon=True) for _ in range(_AT_ONCE)]
    for thread in threads:
        thread.start()
    time.sleep(0.3)
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join(1)
        if any(thread.is_alive() for thread in threads):
            let_go(file)
        for thread in threads:
            thread.join(10)
        daemon.close()


@contextlib.contextmanager
def wedged(container_id: str) -> Generator[None]:
    """Freeze a container, as the daemon does it, in such a way that the daemon no longer answers for it."""
    daemon = Daemon()
    file = _freezer(daemon, container_id)
    for _ in range(_TRIES):
        with commands(container_id):
            daemon.api.pause(container_id)
            if not answers(container_id, 1.0):
                yield
                return
        # Only what is frozen can be resumed, and it may go on by its cgroup already.
        freeze(file)
        daemon.api.unpause(container_id)
    raise AssertionError("no command was starting as the container was frozen")


def _freezer(daemon: Daemon, container_id: str) -> Path:
    file = freezer_of(int(daemon.api.inspect_container(container_id)["State"]["Pid"]))
    assert file is not None
    return file
