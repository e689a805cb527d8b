"""The object store: the one place where state outlives processes and machines.

Keys are relative to the prefix that the store was opened with. A key is a `/`-separated path of non-empty segments,
none of them `.` or `..`, at most 255 bytes a segment and 900 bytes in all (UTF-8), without control characters, and not
starting with `.hibernaut`. A key must not be a folder of another (`a` and `a/b` do not go together): file systems
cannot hold both.

Reads see the newest acknowledged write, a write is durable when its call returns, and nothing of a write is visible
before it is complete. Every method raises `StoreUnavailable` (retryable), `StoreAccessDenied` or `BucketNotFound` for a
store that cannot be used, and `InvalidKey` for a key that breaks the rule above.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from activities.errors import InvalidKey

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable
    from datetime import datetime

MAX_KEY_BYTES = 900
MAX_SEGMENT_BYTES = 255
RESERVED_PREFIX = ".hibernaut"
_SHOWN = 100


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """What the store knows of one object."""

    key: str
    size: int
    """Bytes."""
    etag: str
    """Changes with every write; compare for equality only."""
    modified: datetime
    """Time of the write, with a time zone."""


class ObjectStore(Protocol):
    """An S3-like store of named byte strings; see the module for keys and guarantees."""

    async def get(self, key: str) -> bytes:
        """Return the whole object; `ObjectNotFound` when there is none."""
        ...

    async def get_range(self, key: str, start: int, length: int) -> bytes:
        """Return up to `length` bytes from `start`; fewer at the end, none beyond it.

        Raises:
            ObjectNotFound: there is no object.
        """
        ...

    async def put(self, key: str, data: bytes, *, if_none_match: bool = False) -> None:
        """Write an object; with `if_none_match`, raise `ObjectExists` rather than replace one."""
        ...

    def stream(self, key: str, *, start: int = 0) -> AsyncIterator[bytes]:
        """Yield the object from byte `start` on in pieces of bounded size; `ObjectNotFound` when there is none."""
        ...

    async def put_stream(self, key: str, chunks: AsyncIterator[bytes]) -> int:
        """Write an object of any size in bounded memory and return its size in bytes.

        Nothing is visible before the last byte is stored; when `chunks` raises, the key is as it was.
        """
        ...

    async def head(self, key: str) -> ObjectInfo | None:
        """Describe an object, or None when there is none."""
        ...

    def list(self, prefix: str) -> AsyncIterator[ObjectInfo]:
        """Yield every object whose key starts with `prefix`, in the byte order of the keys."""
        ...

    def list_folders(self, prefix: str) -> AsyncIterator[str]:
        """Yield the folders directly below a prefix that is empty or ends in `/`, as prefixes, in any order.

        It costs by what it yields and by the objects directly below the prefix, not by what the folders hold. A folder
        whose last object was just deleted may be among them.
        """
        ...

    async def delete(self, keys: Iterable[str]) -> None:
        """Delete objects; a key without an object is no error."""
        ...

    async def replace(self, key: str, data: bytes, *, if_match: str | None) -> str:
        """Compare and swap: write only over the version with the ETag `if_match` (None: only where there is no object).

        To read, change and swap: `head` first, then `get`, then `replace` with the ETag of `head`.

        Returns:
            The new version's ETag.

        Raises:
            PreconditionFailed: another version (or an object at all, or none) was found.
        """
        ...

    async def close(self) -> None:
        """Release connections and threads; the store is not used afterwards."""
        ...


def check_key(key: str) -> str:
    """Return the key when it follows the rule of this module, else raise `InvalidKey`."""
    reason = _fault(key)
    if reason is not None:
        shown = ascii(key[:_SHOWN])
        msg = f"The object key {shown} cannot be used: {reason}."
        raise InvalidKey(msg)
    return key


def check_prefix(prefix: str) -> str:
    """Return a listing prefix that no key rule forbids, else raise `InvalidKey`."""
    if prefix:
        segments = prefix.split("/")
        check_key("/".join([*segments[:-1], segments[-1] or "x"]))
    return prefix


def check_folder(prefix: str) -> str:
    """Return the prefix of a folder, empty or ending in `/`, else raise `InvalidKey`."""
    if prefix and not prefix.endswith("/"):
        msg = f"The prefix {prefix[:_SHOWN]!a} is no folder's: it must end in '/'."
        raise InvalidKey(msg)
    return check_prefix(prefix)


def _fault(key: str) -> str | None:
    try:
        raw = key.encode()
    except UnicodeEncodeError:
        return "it is not valid Unicode"
    segments = raw.split(b"/")
    if len(raw) > MAX_KEY_BYTES:
        return f"it is longer than {MAX_KEY_BYTES} bytes"
    if any(part in (b"", b".", b"..") for part in segments):
        return "it has an empty, '.' or '..' segment"
    if any(len(part) > MAX_SEGMENT_BYTES for part in segments):
        return f"a segment is longer than {MAX_SEGMENT_BYTES} bytes"
    if any(byte < 0x20 or byte == 0x7F for byte in raw):  # noqa: PLR2004 - ASCII control characters
        return "it has a control character"
    if key.startswith(RESERVED_PREFIX):
        return f"names starting with {RESERVED_PREFIX} are reserved"
    return None


@runtime_checkable
class Linking(Protocol):
    """A store that makes links for whoever has no credentials; not every store does."""

    async def link(self, key: str, seconds: int, disposition: str) -> str:
        """A URL with which anyone can read an object for so many seconds.

        The answer to it bears `disposition` as its Content-Disposition.
        """
        ...
