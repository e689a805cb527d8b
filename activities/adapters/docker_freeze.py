"""Holds a container still while its files are read or written."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from docker.errors import APIError, NotFound

from activities.adapters.docker_client import translated
from activities.ports.host import FrozenMarks, NoMarks

if TYPE_CHECKING:
    from collections.abc import Generator

    from activities.adapters.docker_client import Daemon


class Freezer:
    """Freezes containers of one daemon for a while.

    The host's watchdog freezes by the same means, for longer: what it has marked is never thawed here.
    """

    def __init__(self, daemon: Daemon, marks: FrozenMarks | None = None) -> None:
        """Use this daemon, and leave alone what is marked."""
        self._daemon = daemon
        self._marks = marks or NoMarks()

    @contextlib.contextmanager
    def frozen(self, container_id: str) -> Generator[None]:
        """Freeze a running container for the block, and let it go on afterwards whatever happened.

        One that is frozen already was left so by an attempt that died: it is used as it is, and let go on as well.

        Raises:
            SandboxLost: The container is gone or does not run.
        """
        with translated():
            try:
                self._daemon.api.pause(container_id)
            except APIError as error:
                if not _is_paused(error):
                    raise
        try:
            yield
        finally:
            self.thaw(container_id)

    def thaw(self, container_id: str) -> None:
        """Let a container go on; one that is marked, gone, or goes on already, is left alone."""
        if not self._marks.holds(container_id):
            thaw(self._daemon, container_id)


def thaw(daemon: Daemon, container_id: str) -> None:
    """Let a container go on, whoever froze it; one that is gone, or goes on already, is left alone."""
    with translated():
        try:
            daemon.api.unpause(container_id)
        except NotFound:
            return
        except APIError as error:
            text = str(error.explanation)
            if "not paused" not in text and "not running" not in text:
                raise


def _is_paused(error: APIError) -> bool:
    return "already paused" in str(error.explanation)
