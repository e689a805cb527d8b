"""The snapshot port: a durable, verified copy of what a sandbox changed over its image.

A snapshot's reference is the key of its manifest. Every error is a `SnapshotError`, a `StoreError` or a `SandboxError`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Literal, Protocol

from pydantic import BaseModel, ConfigDict

from hibernaut.models import FileEntry

CaptureKind = Literal["host", "api"]
"""How files are reached: beside the daemon as root, or through the Docker API alone."""

Progress = Callable[[str], None]
"""Told what goes on, about once a second, on the event loop."""


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
    ) -> SnapshotInfo:
        """Make the container's changes durable as snapshot `number`, building on `parent`.

        The same call again returns the same snapshot. Use a number once: a call for another parent or generation under
        a number that was used raises `SnapshotConflict`.

        Raises:
            SnapshotFenced: A later generation has taken over, whether anything changed or not.
        """
        ...

    async def restore(
        self, container_id: str, *, agent_uid: str, generation: int, ref: str, progress: Progress
    ) -> RestoreInfo:
        """Bring a fresh, running container of the same image to a snapshot; the same call again is harmless.

        A damaged snapshot is passed over for the one before it; the container is touched only once all that is needed
        was fetched and verified.

        Raises:
            SnapshotNotFound: There is no such snapshot, nor one before it.
            SnapshotDamaged: It and all before it are damaged.
            ImageMismatch: The container is of another image.
            SandboxNotFresh: An earlier attempt began with another snapshot: use a new container.
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

    async def delete_agent(self, agent_uid: str) -> DeletedSnapshots:
        """Delete every snapshot of an agent."""
        ...
