"""The manifest: the object whose existence makes a snapshot exist. See `docs/snapshot-format.md`, field by field.

An object is a magic line, the BLAKE3 digest of what follows, and a zstd frame of one JSON document. Paths and the like
are bytes: valid UTF-8 is written as it is, anything else as U+0000 and the base64 of the bytes (no path holds a NUL).
"""

from __future__ import annotations

import base64
import binascii
import json
from typing import TYPE_CHECKING, Annotated, Any, Literal, NotRequired

import zstandard
from blake3 import blake3
from pydantic import BaseModel, ConfigDict, Field, ValidationError, with_config
from typing_extensions import TypedDict

from activities.errors import SnapshotDamaged
from activities.snapshots.chunking import DIGEST_BYTES
from activities.snapshots.entries import Entry, Kind

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

MAGIC = b"HIBERNAUT-SNAP1\n"
MAX_DOCUMENT_BYTES = 1 << 30
_LEVEL = 3
_HEAD = len(MAGIC) + DIGEST_BYTES

Natural = Annotated[int, Field(ge=0, lt=2**63)]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


@with_config(ConfigDict(strict=False))
class EntryDocument(TypedDict):
    """An entry as JSON; a field at its default is left out."""

    p: str
    t: Literal["f", "d", "l", "p", "c", "b", "x"]
    m: NotRequired[Natural]
    u: NotRequired[Natural]
    g: NotRequired[Natural]
    mt: NotRequired[int]
    s: NotRequired[Natural]
    c: NotRequired[list[Digest]]
    e: NotRequired[list[tuple[Natural, Natural]]]
    ln: NotRequired[str]
    d: NotRequired[tuple[Natural, Natural]]
    x: NotRequired[list[tuple[str, str]]]
    h: NotRequired[str]
    o: NotRequired[bool]


class Statistics(BaseModel):
    """What a snapshot did, for reports."""

    model_config = ConfigDict(frozen=True)

    added: Natural
    changed: Natural
    deleted: Natural
    skipped: Natural
    files_total: Natural
    bytes_total: Natural
    packs_stored: Natural
    """Bytes of the packs this snapshot wrote."""


class Manifest(BaseModel):
    """The JSON document."""

    model_config = ConfigDict(frozen=True)

    format: Literal["hibernaut-snapshot"] = "hibernaut-snapshot"
    version: Literal[1] = 1
    agent_uid: str
    generation: Natural
    number: Natural
    parent: str | None
    """Reference of the snapshot before."""
    kind: Literal["full", "delta"]
    """A delta's entries and removals apply to the parent's state."""
    parent_digest: Digest | None
    """Digest of the parent's manifest object, for a delta."""
    depth: Natural
    """Manifests between this one and the full one it builds on; 0 for a full one."""
    image: str
    """Image id, `sha256:...`."""
    capture: Literal["host", "api"]
    created: str
    """RFC 3339, UTC."""
    packs: list[str]
    frames: list[tuple[Natural, Natural, Natural, Natural]]
    """(index in `packs`, offset, stored bytes, plain bytes)."""
    chunks: list[tuple[Digest, Natural, Natural, Natural]]
    """(digest, index in `frames`, start, bytes)."""
    entries: list[EntryDocument]
    removed: list[str]
    """Paths of the parent's state that are no longer different from the image."""
    statistics: Statistics


def encode(manifest: Manifest) -> tuple[bytes, str]:
    """Return the object's bytes and their digest."""
    text = json.dumps(manifest.model_dump(mode="json"), separators=(",", ":"), ensure_ascii=False)
    payload = zstandard.ZstdCompressor(level=_LEVEL).compress(text.encode())
    data = MAGIC + blake3(payload).digest() + payload
    return data, blake3(data).hexdigest()


def decode(data: bytes, ref: str) -> tuple[Manifest, str]:
    """Return the manifest in an object's bytes, and the digest of the bytes.

    Raises:
        SnapshotDamaged: The bytes are not a manifest, or not the one of this reference.
    """
    payload = data[_HEAD:]
    if data[: len(MAGIC)] != MAGIC or data[len(MAGIC) : _HEAD] != blake3(payload).digest():
        msg = f"The manifest {ref} is damaged: its digest does not match."
        raise SnapshotDamaged(msg)
    try:
        if zstandard.frame_content_size(payload) > MAX_DOCUMENT_BYTES:
            msg = f"The manifest {ref} is larger than any that is written."
            raise SnapshotDamaged(msg)
        text = zstandard.ZstdDecompressor().decompress(payload, max_output_size=MAX_DOCUMENT_BYTES)
        manifest = Manifest.model_validate_json(text)
    except (zstandard.ZstdError, ValidationError) as error:
        msg = f"The manifest {ref} cannot be read: {str(error)[:500]}"
        raise SnapshotDamaged(msg) from None
    return manifest, blake3(data).hexdigest()


def text_of(raw: bytes) -> str:
    """Write bytes as JSON text, losslessly."""
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        return "\0" + base64.b64encode(raw).decode()
    return text if not text.startswith("\0") else "\0" + base64.b64encode(raw).decode()


def bytes_of(text: str) -> bytes:
    """Read what `text_of` wrote."""
    if not text.startswith("\0"):
        return text.encode()
    try:
        return base64.b64decode(text[1:], validate=True)
    except (binascii.Error, ValueError):
        msg = "A manifest holds base64 that cannot be read."
        raise SnapshotDamaged(msg) from None


def write_entry(entry: Entry) -> EntryDocument:
    """Return an entry as JSON."""
    fields: dict[str, Any] = {
        "p": text_of(entry.path),
        "t": entry.kind.value,
        "m": entry.mode,
        "u": entry.uid,
        "g": entry.gid,
        "mt": entry.mtime_ns,
        "s": entry.size,
        "c": [digest.hex() for digest in entry.chunks],
        "ln": text_of(entry.target),
        "d": entry.device if entry.device != (0, 0) else None,
        "x": [(text_of(name), base64.b64encode(value).decode()) for name, value in entry.xattrs],
        "h": text_of(entry.leader),
        "o": entry.opaque,
    }
    document: Any = {name: value for name, value in fields.items() if value}
    if entry.extents is not None:
        document["e"] = entry.extents
    return document


def read_entries(documents: Iterable[EntryDocument]) -> dict[bytes, Entry]:
    """Read entries from JSON."""
    found = (_read_entry(document) for document in documents)
    return {entry.path: entry for entry in found}


def chunk_lengths(manifests_chunks: Mapping[bytes, Any]) -> dict[bytes, int]:
    """Return the length of each located chunk."""
    return {digest: location.length for digest, location in manifests_chunks.items()}


def _read_entry(document: EntryDocument) -> Entry:
    get: Any = document.get
    try:
        xattrs = tuple(sorted((bytes_of(name), base64.b64decode(value)) for name, value in get("x", ())))
    except (binascii.Error, ValueError):
        msg = "A manifest holds an extended attribute that cannot be read."
        raise SnapshotDamaged(msg) from None
    return Entry(
        path=bytes_of(document["p"]),
        kind=Kind(document["t"]),
        mode=get("m", 0),
        uid=get("u", 0),
        gid=get("g", 0),
        mtime_ns=get("mt", 0),
        size=get("s", 0),
        chunks=tuple(bytes.fromhex(digest) for digest in get("c", ())),
        extents=tuple((start, length) for start, length in document["e"]) if "e" in document else None,
        target=bytes_of(get("ln", "")),
        device=tuple(get("d", (0, 0))),
        xattrs=xattrs,
        leader=bytes_of(get("h", "")),
        opaque=get("o", False),
    )
