"""Runs blocking work in a thread: with progress, with a way to stop it, and with uploads that go on beside it."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import TYPE_CHECKING, TypeVar

from activities.snapshots.capture import Cancelled

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

    from activities.ports.snapshots import Progress
    from activities.ports.store import ObjectStore
    from activities.snapshots.capture import Control

_Result = TypeVar("_Result")
_TICK_S = 1.0
_IN_FLIGHT = 2
"""Packs on their way at once: with one being filled and one being joined, 32 MiB."""


async def run_blocking(work: Callable[[], _Result], control: Control, progress: Progress) -> _Result:
    """Run `work` in a thread and report what it does every second.

    When this coroutine is cancelled, the thread is asked to stop and waited for: it may hold a container frozen.
    """
    running = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        while True:
            progress(control.text)
            done, _ = await asyncio.wait({running}, timeout=_TICK_S)
            if done:
                return running.result()
    except asyncio.CancelledError:
        control.stop()
        while not running.done():
            # Asked once more to give up, it still may not leave the thread behind.
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait({running})
        if not running.cancelled():
            running.exception()
        raise


async def watched(work: asyncio.Future[_Result], control: Control, progress: Progress) -> _Result:
    """Wait for work on the loop and report what it does every second; it ends with this coroutine."""
    try:
        while not work.done():
            progress(control.text)
            await asyncio.wait({work}, timeout=_TICK_S)
        return work.result()
    finally:
        work.cancel()


class Uploads:
    """Stores objects from a thread, a few at once; a failed one fails the next."""

    def __init__(self, store: ObjectStore, control: Control) -> None:
        self._store = store
        self._control = control
        self._loop = asyncio.get_running_loop()
        self._room = threading.BoundedSemaphore(_IN_FLIGHT)
        self._futures: list[Future[None]] = []
        self._failed: Exception | None = None

    def put(self, key: str, data: bytes) -> None:
        """Begin to store an object; wait when enough are on their way. Called from the thread."""
        while not self._room.acquire(timeout=_TICK_S / 2):
            self._control.check()
        if self._failed is not None:
            self._room.release()
            raise Cancelled
        future = asyncio.run_coroutine_threadsafe(self._put(key, data), self._loop)
        # Also when it is given up before it has begun.
        future.add_done_callback(lambda _: self._room.release())
        self._futures.append(future)

    async def finish(self) -> None:
        """Wait until everything is stored; raise what failed first."""
        await asyncio.gather(*(asyncio.wrap_future(future) for future in self._futures), return_exceptions=True)
        if self._failed is not None:
            raise self._failed

    def abandon(self) -> None:
        """Stop what is on its way."""
        for future in self._futures:
            future.cancel()

    async def _put(self, key: str, data: bytes) -> None:
        try:
            await self._store.put(key, data)
        except Exception as error:
            self._failed = self._failed or error
            raise
