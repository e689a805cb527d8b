"""Holds a container still: for a moment, while its files are read or written, or until somebody lets it go on.

A command that starts just as its container is frozen is frozen half started. The daemon waits for it, and whoever asks
about the container then waits for the daemon, with the container locked: it is told of no more, and let go on no more.
Its cgroup needs no such lock. See `cgroup_freezer`.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from typing import TYPE_CHECKING

from docker.errors import APIError

from activities.adapters.cgroup_freezer import freeze, freezer_of, freezer_of_container, let_go
from activities.adapters.docker_client import translated
from activities.adapters.holds import Holds
from activities.errors import SandboxError, SandboxLost, SandboxUnavailable
from activities.ports.host import FrozenMarks, NoMarks

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from activities.adapters.docker_client import Daemon

LOGGER = logging.getLogger(__name__)
_PATIENCE_S = 0.3
"""Resuming takes some 20 ms, and so does an answer."""
_TRIES = 8


class Freezer:
    """Freezes containers of one daemon.

    The host's watchdog freezes by the same means, for longer: what it has marked is never thawed here.
    """

    def __init__(self, daemon: Daemon, marks: FrozenMarks | None = None, holds: Holds | None = None) -> None:
        """Use this daemon, leave alone what is marked, and note what is held still."""
        self._daemon = daemon
        self._marks = marks or NoMarks()
        self._holds = holds or Holds()

    @contextlib.contextmanager
    def frozen(self, container_id: str, pid: int) -> Generator[None]:
        """Freeze a running container for the block, and let it go on afterwards whatever happened.

        `pid`: of its init process, on this host.

        One that is frozen already was left so by an attempt that died: it is used as it is, and let go on as well.

        Raises:
            SandboxLost: The container is gone or does not run.
            SandboxUnavailable: The daemon does not answer, or another process holds the container.
        """
        with self._holds.holding(container_id):
            freezer = freezer_of(pid)
            try:
                self.freeze(container_id)
            except SandboxUnavailable:
                # The answer was lost, and the container may be frozen all the same.
                with contextlib.suppress(SandboxError):
                    self._give_back(container_id, freezer)
                raise
            except SandboxError:
                self._holds.forget(container_id)
                raise
            try:
                yield
            finally:
                self._give_back(container_id, freezer)

    def freeze(self, container_id: str) -> None:
        """Freeze a container until somebody lets it go on; one that is frozen already is left so.

        Raises:
            SandboxError: It is gone, or does not run, or the daemon does not do it.
        """
        with translated():
            try:
                self._daemon.api.pause(container_id)
            except APIError as error:
                if "already paused" not in str(error.explanation):
                    raise

    def settle(self, container_id: str, within: float) -> None:
        """See to it that the daemon answers for a frozen container, which must not be let go on by anybody meanwhile.

        A command that was frozen half started is given moments to finish starting, in which everything else in the
        container goes on too: there are none but `within` so many seconds.
        """
        end = time.monotonic() + within
        asked = _Question(self._daemon, container_id)
        freezer: Path | None = None
        moment = _PATIENCE_S
        while not asked.answered(min(_PATIENCE_S, max(0.0, end - time.monotonic()))) and time.monotonic() < end:
            freezer = freezer or freezer_of_container(container_id)
            if freezer is None:
                return
            let_go(freezer)
            try:
                answered = asked.answered(min(moment, max(0.0, end - time.monotonic())))
            finally:
                freeze(freezer)
            moment *= 2
            if answered:
                # Another command may have been next.
                asked = _Question(self._daemon, container_id)
        if freezer is not None and asked.answered(_PATIENCE_S) and asked.paused is False:
            # Somebody let it go on after all, and the daemon does not know that it was frozen again.
            let_go(freezer)

    def thaw(self, container_id: str) -> None:
        """Let a container go on, whoever froze it; one that is marked, or goes on already, is left alone.

        Raises:
            SandboxLost: It is gone, or does not run.
            SandboxUnavailable: The daemon does not let it go on.
        """
        self._let_go(container_id, None)

    def reclaim(self, container_id: str) -> None:
        """Let a frozen container go on that was left so, with a note or without.

        Raises:
            SandboxUnavailable: The daemon does not let it go on, or another process holds it still this moment.
        """
        with self._holds.holding(container_id):
            self._give_back(container_id, None)

    def recover(self, container_id: str) -> None:
        """Let a container go on that a process of this host held still as it died.

        Raises:
            SandboxUnavailable: The daemon does not let it go on.
        """
        with self._holds.taken_over(container_id) as left:
            if left:
                LOGGER.warning("%s was held still by a process that died, and is let go on", container_id[:12])
                self._give_back(container_id, None)

    def recover_all(self) -> None:
        """Do so for every container; one that cannot be let go on now is tried again when it is needed."""
        for container_id in self._holds.left():
            try:
                self.recover(container_id)
            except SandboxError as error:
                LOGGER.warning("%s is still frozen: %s", container_id[:12], error)

    def _give_back(self, container_id: str, freezer: Path | None) -> None:
        """Let go on what was held still; the note of it goes once that is done."""
        with contextlib.suppress(SandboxLost):
            self._let_go(container_id, freezer)
        self._holds.forget(container_id)

    def _let_go(self, container_id: str, freezer: Path | None) -> None:
        """Let a container go on, also while the daemon waits for a command that began as it was frozen."""
        patience = _PATIENCE_S
        for _ in range(_TRIES):
            if self._marks.holds(container_id):
                return
            if self._thaw_within(patience, container_id, freezer) or not self._is_paused(container_id):
                # Should it be frozen again by now, then by somebody else.
                return
            # It goes on, and the daemon still takes it for frozen: only what is frozen can be resumed. The same holds
            # for what the watchdog has marked meanwhile.
            freezer = freezer or freezer_of_container(container_id)
            if freezer is None:
                break
            freeze(freezer)
            patience *= 2
        if not self._marks.holds(container_id):
            self._release(container_id, freezer)
            msg = f"The container {container_id[:12]} is not let go on by the Docker daemon."
            raise SandboxUnavailable(msg)

    def _thaw_within(self, patience: float, container_id: str, freezer: Path | None) -> bool:
        """Resume; when that takes longer, what is frozen goes on by its cgroup, and the daemon with it.

        False: the daemon has not done it, and why is to be seen.
        """
        timer = threading.Timer(patience, self._release, (container_id, freezer))
        timer.start()
        try:
            return self._resume(container_id)
        except SandboxLost:
            raise
        except SandboxError:
            self._release(container_id, freezer)
            raise
        finally:
            timer.cancel()
            timer.join()

    def _resume(self, container_id: str) -> bool:
        if self._marks.holds(container_id):
            return False
        with translated():
            try:
                self._daemon.api.unpause(container_id)
            except APIError as error:
                if "not paused" not in str(error.explanation):
                    raise
                return False
        return True

    def _release(self, container_id: str, freezer: Path | None) -> None:
        if self._marks.holds(container_id):
            return
        found = freezer or freezer_of_container(container_id)
        if found is not None:
            let_go(found)

    def _is_paused(self, container_id: str) -> bool:
        try:
            with translated():
                return bool(self._daemon.api.inspect_container(container_id)["State"]["Paused"])
        except SandboxLost:
            return False


class _Question:
    """Asks the daemon about a container, in a thread of its own: the answer may never come."""

    def __init__(self, daemon: Daemon, container_id: str) -> None:
        self._daemon = daemon
        self._container_id = container_id
        self._answered = threading.Event()
        self.paused: bool | None = None
        """Whether the daemon takes it for frozen; None when it does not know it."""
        threading.Thread(target=self._ask, daemon=True, name="freeze-question").start()

    def answered(self, seconds: float) -> bool:
        """Wait for the answer."""
        return self._answered.wait(seconds)

    def _ask(self) -> None:
        with contextlib.suppress(SandboxError), translated():
            self.paused = bool(self._daemon.api.inspect_container(self._container_id)["State"]["Paused"])
        self._answered.set()
