"""The snapshot port: a durable, verified copy of what a sandbox changed over its image.

A snapshot's reference is the key of its manifest. What prunes, collects and verifies snapshots is the port `Upkeep` of
`upkeep.py`, with its models `Retention`, `PruneReport`, `CollectReport` and `VerifyReport`. Every error is a
`SnapshotError`, a `StoreError` or a `SandboxError`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Literal, Protocol

from pydantic import BaseModel, ConfigDict

from hibernaut.models import FileEntry

CaptureKind = Literal["host", "api"]
"""How files are reached: beside the daemon as root, or through the Docker API alone."""

Progress = Callable[[str], None]
"""Told what goes on, about once a second, on the event loop."""


class TakeOptions(BaseModel):
    """How a snapshot is taken."""

    model_config = ConfigDict(frozen=True)

    compression: int = 1
    """The zstd level of what is newly stored."""
    exclude: tuple[str, ...] = ()
    """Patterns of absolute paths that are left out; see `SnapshotSpec.exclude`."""
    max_bytes: int | None = None
    """Limit of the content of the whole delta, uncompressed."""
    thorough: bool = False
    """Look at every path even where a proof says that nothing ran: the last snapshot before a container is given up."""


class SnapshotInfo(BaseModel):
    """A snapshot that is durable."""

    model_config = ConfigDict(frozen=True)

    ref: str
    """Key of the manifest; the parent's when nothing changed."""
    number: int
    """The number that `ref` bears."""
    parent: str | None
    unchanged: bool
    """Nothing differed from the parent, and nothing was written."""
    added: int
    """Files, links and the like that are new; directories are not counted, here and below."""
    changed: int
    deleted: int
    files_total: int
    """In the whole delta over the image."""
    bytes_new_stored: int
    """Added to the store, compressed, the manifest included."""
    bytes_total: int
    """Of content in the whole delta, uncompressed."""
    skipped: int
    """Sockets and paths too long to be named, which no snapshot holds."""
    requests: int
    """Made to the store."""
    duration_ms: int
    capture: CaptureKind
    image_id: str


class RestoreInfo(BaseModel):
    """What a container was restored to."""

    model_config = ConfigDict(frozen=True)

    requested: str
    restored: str
    """Differs from `requested` when that one is damaged."""
    number: int
    """Of the restored snapshot."""
    reason: str | None
    """Why another snapshot was restored than the one requested."""
    files: int
    bytes: int
    """Of content, uncompressed."""
    requests: int
    duration_ms: int
    capture: CaptureKind


class DeletedSnapshots(BaseModel):
    """What was deleted of an agent."""

    model_config = ConfigDict(frozen=True)

    manifests: int
    packs: int
    bytes: int
    shared: bool = False
    """Other agents may use its packs: they are left to the collection, and so is the marker that says so."""


@dataclass(frozen=True, slots=True)
class BranchStart:
    """Where the branch begins that a snapshot is of."""

    first: int = 0
    """Number of its first snapshot; 0: all of the agent are of it."""
    base: str | None = None
    """The snapshot that it began with."""


WHOLE_LIFE = BranchStart()


class SnapshotEngine(Protocol):
    """Takes and restores snapshots of containers on one host, and reads them without a container."""

    async def claim(self, *, agent_uid: str, generation: int) -> None:
        """Make a generation the only one whose snapshots count: call it before its container is made.

        Raises:
            SnapshotFenced: A later generation has claimed that already.
        """
        ...

    async def prepare(self, container_id: str, *, agent_uid: str, generation: int) -> None:
        """Note what a fresh container looks like: call it right after the start, before any command or restore."""
        ...

    async def take(
        self,
        container_id: str,
        *,
        agent_uid: str,
        generation: int,
        number: int,
        parent: str | None,
        progress: Progress,
        options: TakeOptions | None = None,
    ) -> SnapshotInfo:
        """Make the container's changes durable as snapshot `number`, building on `parent`.

        The same call again returns the same snapshot. Use a number once: a call for another parent or generation under
        a number that was used raises `SnapshotConflict`.

        Raises:
            SnapshotFenced: A later generation has taken over, whether anything changed or not.
        """
        ...

    def prefetch(self, ref: str) -> None:
        """Start to fetch a snapshot in the background: one that is about to be restored, once its container is there.

        A fault shows when it is restored. What nobody restores within some minutes is dropped.
        """
        ...

    def drop_prefetched(self, ref: str) -> None:
        """Give up what `prefetch` began, with its memory: there will be no container to restore it into."""
        ...

    async def restore(
        self,
        container_id: str,
        *,
        agent_uid: str,
        generation: int,
        ref: str,
        progress: Progress,
        branch: BranchStart = WHOLE_LIFE,
    ) -> RestoreInfo:
        """Bring a fresh, running container of the same image to a snapshot; the same call again is harmless.

        A damaged snapshot is passed over for the one before it on the same branch. Nothing is written that was not
        verified; of a large snapshot some may be written when the rest proves damaged.

        Raises:
            SnapshotNotFound: There is no such snapshot, nor one before it.
            SnapshotDamaged: It and all before it are damaged.
            ImageMismatch: The container is of another image.
            SandboxNotFresh: Another snapshot was begun in the container, or this one, and it proved damaged: use a new
                container.
            PathEscape: The manifest was tampered with.
        """
        ...

    async def forget(self, container_id: str) -> None:
        """Drop what is kept of a container that was removed."""
        ...

    async def list_files(self, ref: str, path: str) -> list[FileEntry]:
        """List a directory of a snapshot's delta by name; what is no directory lists as itself."""
        ...

    def open_file(self, ref: str, path: str) -> AsyncIterator[bytes]:
        """Stream a file of a snapshot, following symbolic links within it.

        Raises:
            FileInImageOnly: The delta does not have it; the image may.
            FileNotInSnapshot: It does not exist, or is no file.
        """
        ...

    async def fork(self, ref: str, *, agent_uid: str, generation: int) -> SnapshotInfo:
        """Make a snapshot of another agent the first one of this new agent; again returns the same.

        What the new snapshot needs is kept from the moment this returns, whatever becomes of the other agent. It costs
        no packs.

        Raises:
            SnapshotNotFound: There is no such snapshot, or no longer.
            SnapshotDamaged: It cannot be read.
            SnapshotConflict: The new agent has a first snapshot already, or it is the same agent.
            SnapshotFenced: A later generation of the new agent has taken over.
        """
        ...

    async def rest(self, ref: str, *, agent_uid: str, generation: int) -> None:
        """Note that an agent goes on from this snapshot of its own, though it has newer ones: so it is kept.

        Raises:
            SnapshotNotFound: There is no such snapshot, or no longer.
            SnapshotFenced: A later generation of the agent has taken over.
        """
        ...

    async def delete_agent(self, agent_uid: str) -> DeletedSnapshots:
        """Delete every snapshot of an agent; packs that other agents may use are left to the collection."""
        ...
