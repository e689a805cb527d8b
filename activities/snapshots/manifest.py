"""The manifest: the object whose existence makes a snapshot exist. See `docs/snapshot-format.md`, field by field.

An object is a magic line, the BLAKE3 digest of what follows, and a zstd frame of one JSON document; all of it may be
sealed. Paths and the like are bytes: valid UTF-8 is written as it is, anything else as U+0000 and the base64 of the
bytes (no path holds a NUL).
"""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING, Annotated, Any, Literal, NotRequired

import zstandard
from blake3 import blake3
from pydantic import BaseModel, ConfigDict, Field, ValidationError, with_config
from typing_extensions import TypedDict

from activities.errors import SnapshotDamaged, SnapshotTooNew
from activities.ownership import SnapshotForeign, foreign
from activities.snapshots import layout
from activities.snapshots.chunking import DIGEST_BYTES
from activities.snapshots.entries import Entry, Kind
from activities.snapshots.sealing import PLAIN, Sealer, key_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

MAGIC = b"HIBERNAUT-SNAP1\n"
VERSION = 2
"""The newest that is read."""
MAX_DOCUMENT_BYTES = 1 << 30
_LEVEL = 3
_HEAD = len(MAGIC) + DIGEST_BYTES
_KINDS = {kind.value: kind for kind in Kind}

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
    duration_ms: Natural = 0
    """From the call to this manifest's writing; older releases did not write it."""


class _Version(BaseModel):
    """What a manifest of any version says of itself."""

    version: Natural


class Manifest(BaseModel):
    """The JSON document."""

    model_config = ConfigDict(frozen=True)

    format: Literal["hibernaut-snapshot"] = "hibernaut-snapshot"
    version: Literal[1, 2] = 1
    """2 when it is sealed."""
    key: Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")] | None = None
    """Id of the key that seals it and the packs written for it; version 1 has no such field."""
    owner: str | None = None
    """Whose agents alone may have it; older releases wrote none."""
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


def encode(manifest: Manifest, sealer: Sealer = PLAIN) -> tuple[bytes, str]:
    """Return the object's bytes and their digest; the version, the key and the owner are the sealer's."""
    manifest = manifest.model_copy(update={"owner": sealer.owner})
    if sealer.key_id is not None:
        manifest = manifest.model_copy(update={"version": 2, "key": sealer.key_id})
    unset = {name for name, value in (("key", sealer.key_id), ("owner", sealer.owner)) if value is None}
    text = manifest.model_dump_json(exclude=unset)
    payload = zstandard.ZstdCompressor(level=_LEVEL).compress(text.encode())
    context = layout.manifest_key(manifest.agent_uid, manifest.number).encode()
    data = sealer.seal(MAGIC + blake3(payload).digest() + payload, context)
    return data, blake3(data).hexdigest()


def decode(stored: bytes, ref: str, sealer: Sealer = PLAIN) -> tuple[Manifest, str]:
    """Return the manifest in an object's bytes, and the digest of the bytes.

    Raises:
        SnapshotDamaged: The bytes are not a manifest, or not the one of this reference.
        SnapshotSealed: It is sealed with a key that is not known here.
        SnapshotTooNew: It is of a version that is not known here.
        SnapshotForeign: It is another owner's.
    """
    data = sealer.open(stored, ref.encode())
    payload = data[_HEAD:]
    if data[: len(MAGIC)] != MAGIC or data[len(MAGIC) : _HEAD] != blake3(payload).digest():
        msg = f"The manifest {ref} is damaged: its digest does not match."
        raise SnapshotDamaged(msg)
    try:
        if zstandard.frame_content_size(payload) > MAX_DOCUMENT_BYTES:
            msg = f"The manifest {ref} is larger than any that is written."
            raise SnapshotDamaged(msg)
        text = zstandard.ZstdDecompressor().decompress(payload, max_output_size=MAX_DOCUMENT_BYTES)
        manifest = _read(text, ref)
    except (zstandard.ZstdError, ValidationError) as error:
        msg = f"The manifest {ref} cannot be read: {str(error)[:500]}"
        raise SnapshotDamaged(msg) from None
    if manifest.key != key_of(stored) or (manifest.version == 1) != (manifest.key is None):
        msg = f"The manifest {ref} is not sealed as it says."
        raise SnapshotDamaged(msg)
    if sealer.owner is not None and manifest.owner not in {None, sealer.owner}:
        raise SnapshotForeign(foreign(ref, str(manifest.owner), sealer.owner))
    return manifest, blake3(stored).hexdigest()


def _read(text: bytes, ref: str) -> Manifest:
    try:
        return Manifest.model_validate_json(text)
    except ValidationError:
        version = _Version.model_validate_json(text).version
        if version <= VERSION:
            raise
    msg = (
        f"The manifest {ref} has the format's version {version}, and this release reads up to {VERSION}: use the "
        "release that wrote it, or a later one."
    )
    raise SnapshotTooNew(msg)


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
        document["e"] = list(entry.extents)
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
    xattrs: tuple[tuple[bytes, bytes], ...] = ()
    try:
        if "x" in document:
            xattrs = tuple(sorted((bytes_of(name), base64.b64decode(value)) for name, value in document["x"]))
    except (binascii.Error, ValueError):
        msg = "A manifest holds an extended attribute that cannot be read."
        raise SnapshotDamaged(msg) from None
    return Entry(
        path=bytes_of(document["p"]),
        kind=_KINDS[document["t"]],
        mode=get("m", 0),
        uid=get("u", 0),
        gid=get("g", 0),
        mtime_ns=get("mt", 0),
        size=get("s", 0),
        chunks=tuple(map(bytes.fromhex, get("c", ()))),
        extents=tuple((start, length) for start, length in document["e"]) if "e" in document else None,
        target=bytes_of(document["ln"]) if "ln" in document else b"",
        device=document.get("d") or (0, 0),
        xattrs=xattrs,
        leader=bytes_of(document["h"]) if "h" in document else b"",
        opaque=get("o", False),
    )
