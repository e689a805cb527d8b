"""Writes one snapshot into one container, every chunk verified.

What is not too much is verified as a whole before the container is touched. What is more is written as it arrives: when
it then proves damaged, the container is given up, and whoever restores the snapshot next verifies all of it first.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from activities.errors import ImageMismatch, ObjectExists, ObjectNotFound, SandboxNotFresh, SnapshotDamaged
from activities.snapshots import layout
from activities.snapshots.capture import Control, RestoresInOrder, RestoresPieces
from activities.snapshots.fetch import HELD_BYTES, Spool, held, verify
from activities.snapshots.prefetch import Fetched, Fetcher, discard
from activities.snapshots.threads import run_blocking, watched

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from pathlib import Path

    from activities.ports.snapshots import Progress
    from activities.ports.store import ObjectStore
    from activities.snapshots.capture import Capture
    from activities.snapshots.feed import Feed
    from activities.snapshots.sealing import Sealer
    from activities.snapshots.state import Signature, State

_Result = TypeVar("_Result")
_OWN_REQUESTS = 3
"""Whether an attempt began here, whether the snapshot is suspected, and the claim."""


class Target(NamedTuple):
    """What is written into."""

    container_id: str
    agent_uid: str
    capture: Capture


class Applied(NamedTuple):
    """A snapshot that a container holds now."""

    state: State
    signatures: dict[bytes, Signature]
    requests: int


class Applying:
    """Writes snapshots of one store into one host's containers."""

    def __init__(self, store: ObjectStore, fetcher: Fetcher, folder: Path | None, *, sealer: Sealer) -> None:
        """Spool to a folder what has to be on disk; None: that of the system."""
        self._store = store
        self._fetcher = fetcher
        self._folder = folder
        self._sealer = sealer

    async def apply(self, target: Target, ref: str, progress: Progress, *, verify_first: bool = False) -> Applied:
        """Bring a container to a snapshot.

        Args:
            target: The container.
            ref: The snapshot.
            progress: Told what goes on.
            verify_first: All of it is verified before anything is written, however much it is.

        Raises:
            SnapshotDamaged: The snapshot is damaged, and the container is as it was.
            SandboxNotFresh: It is damaged, or another was begun, and the container holds some of it.
        """
        begun, suspected = await asyncio.gather(self._begun(target), self._suspected(ref))
        fetched, done = await self._fetched(target.capture, ref, progress, resumed=begun == ref)
        requests = _OWN_REQUESTS
        try:
            if (suspected or verify_first) and fetched.feed.plain_bytes > HELD_BYTES:
                await _whole(fetched, verify(fetched.feed), progress)
                requests += fetched.feed.requests
                fetched = fetched._replace(feed=self._feed(fetched.state, done, fetched.control))
            signatures = await self._write(target, ref, fetched, done, progress)
        finally:
            fetched.close()
        if suspected:
            await self._store.delete([layout.suspect_key(ref)])
        return Applied(fetched.state, signatures, fetched.requests + requests)

    async def _fetched(
        self, capture: Capture, ref: str, progress: Progress, *, resumed: bool
    ) -> tuple[Fetched, set[bytes]]:
        """Return what arrives of the content that is still to be written, and the files that are written already."""
        ahead = self._fetcher.take(ref)
        if ahead is not None and not resumed:
            try:
                fetched = await watched(ahead.task, ahead.control, progress)
                _check_image(fetched.state, ref, capture)
            except BaseException:
                discard(ahead)
                raise
            return fetched, set()
        if ahead is not None:
            discard(ahead)
        state, requests = await self._fetcher.state(ref)
        _check_image(state, ref, capture)
        control, done = Control(), set[bytes]()
        if resumed:
            # An attempt that died has written some of it.
            done = await run_blocking(lambda: capture.written(state.entries, control), control, progress)
        return Fetched(state, self._feed(state, done, control), requests, control), done

    def _feed(self, state: State, done: set[bytes], control: Control) -> Feed:
        missing = [entry for path, entry in state.entries.items() if path not in done]
        return self._fetcher.feed(state, missing, control)

    async def _write(
        self, target: Target, ref: str, fetched: Fetched, done: set[bytes], progress: Progress
    ) -> dict[bytes, Signature]:
        capture, entries, control = target.capture, fetched.state.entries, fetched.control

        async def write(work: Callable[[], dict[bytes, Signature]]) -> dict[bytes, Signature]:
            await self._claim(target, ref)
            return await run_blocking(work, control, progress)

        if isinstance(capture, RestoresPieces):
            if fetched.feed.plain_bytes <= HELD_BYTES:
                source = await _whole(fetched, held(fetched.feed), progress)
                return await write(lambda: capture.restore_pieces(entries, source, control, done))
            try:
                return await write(lambda: capture.restore_pieces(entries, fetched.feed, control, done))
            except SnapshotDamaged as error:
                await self._suspect(ref, error)
                msg = f"{error} Part of the snapshot {ref} was written already: acquire a new container."
                raise SandboxNotFresh(msg) from error
        if not isinstance(capture, RestoresInOrder):
            raise TypeError(type(capture).__name__)
        spool = Spool(fetched.state.chunks, self._folder, sealer=self._sealer)
        try:
            await _whole(fetched, spool.fill(fetched.feed), progress)
            return await write(lambda: capture.restore(entries, spool, control, done))
        finally:
            spool.close()

    async def _claim(self, target: Target, ref: str) -> None:
        """Note which snapshot is about to be written into the container: a later attempt must not mix in another."""
        key = layout.restore_key(target.agent_uid, target.container_id)
        try:
            await self._store.put(key, ref.encode(), if_none_match=True)
        except ObjectExists:
            begun = await self._begun(target)
            if begun != ref:
                msg = (
                    f"The restore of {begun} was begun in this container, and now {ref} is to be restored: "
                    "acquire a new container."
                )
                raise SandboxNotFresh(msg) from None

    async def _begun(self, target: Target) -> str | None:
        """Return the reference whose restore into the container an earlier attempt began."""
        try:
            return (await self._store.get(layout.restore_key(target.agent_uid, target.container_id))).decode(
                errors="replace"
            )
        except ObjectNotFound:
            return None

    async def _suspected(self, ref: str) -> bool:
        """Tell whether a restore of this snapshot, into any container, met damage when it had begun to write."""
        try:
            await self._store.get(layout.suspect_key(ref))
        except ObjectNotFound:
            return False
        return True

    async def _suspect(self, ref: str, error: SnapshotDamaged) -> None:
        """Have the next restore of a snapshot verify all of it before it writes anything."""
        await self._store.put(layout.suspect_key(ref), str(error).encode())


async def _whole(fetched: Fetched, work: Coroutine[Any, Any, _Result], progress: Progress) -> _Result:
    """Wait until all content was taken; its threads end when this is given up."""
    try:
        return await watched(asyncio.ensure_future(work), fetched.control, progress)
    except BaseException:
        fetched.control.stop()
        raise


def _check_image(state: State, ref: str, capture: Capture) -> None:
    if state.image != capture.image_id:
        msg = (
            f"The snapshot {ref} is a delta of image {state.image}, and the container is of {capture.image_id}: "
            "restore into a container of the snapshot's image."
        )
        raise ImageMismatch(msg)
