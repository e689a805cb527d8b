"""Encryption at rest: what is stored may be sealed with AES-256-GCM, and says so itself.

A sealed object is a magic line, the id of the key, a random nonce, and the ciphertext with its tag. The header and the
context, which says what the object is for, are authenticated with it: bytes that were changed, or moved to where
something else belongs, do not open.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple, Protocol

from blake3 import blake3
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from activities.errors import SnapshotDamaged, SnapshotSealed

if TYPE_CHECKING:
    from collections.abc import Iterable

FRAME = b"frame"
"""The context in which frames of packs are sealed. Of objects with a name of their own it is their key."""
MAGIC = b"HIBERNAUT-SEAL1\n"
KEY_BYTES = 32
ID_BYTES = 8
OVERHEAD = len(MAGIC) + ID_BYTES + 12 + 16
"""Bytes that sealing adds."""
_NONCE_BYTES = 12
_HEAD = len(MAGIC) + ID_BYTES
_ID_CONTEXT = "hibernaut snapshot key id"


class Sealer(Protocol):
    """Seals what is written and opens what is read. Safe to use from many threads."""

    @property
    def key_id(self) -> str | None:
        """Of the key that seals what is new; None: nothing is sealed."""
        ...

    @property
    def owner(self) -> str | None:
        """Whose snapshots are written, and alone are read; None: nobody's in particular, and anybody's are read."""
        ...

    def seal(self, data: bytes, context: bytes) -> bytes:
        """Return what is to be stored."""
        ...

    def open(self, data: bytes, context: bytes) -> bytes:
        """Return what was sealed in this context; data that is not sealed is returned as it is.

        Raises:
            SnapshotSealed: It is sealed with a key that is not known here.
            SnapshotDamaged: It was changed, or sealed in another context.
        """
        ...


class Key(NamedTuple):
    """A key of a ring."""

    name: str
    """For people alone."""
    secret: bytes
    """32 bytes."""

    @property
    def id(self) -> str:
        """What sealed objects name it by; nothing of the secret can be told from it."""
        return blake3(self.secret, derive_key_context=_ID_CONTEXT).hexdigest(ID_BYTES)

    def __repr__(self) -> str:
        """Show no secret."""
        return f"Key(name={self.name!r}, id={self.id!r})"


class KeyRing:
    """Seals with its first key, and opens what was sealed with any of them; without a key, only what is not sealed."""

    def __init__(self, keys: Iterable[Key], owner: str | None = None) -> None:
        """Take these keys; the first one seals."""
        found = self._keys = list(keys)
        self.owner = owner
        self.names: dict[str, str] = {key.id: key.name for key in found}
        """Names of the keys by their ids, the one that seals first."""
        self._ciphers = {key.id: AESGCM(key.secret) for key in found}
        self.key_id: str | None = found[0].id if found else None

    def __repr__(self) -> str:
        """Show no secret."""
        return f"KeyRing({self.names})"

    def of(self, owner: str) -> KeyRing:
        """Return the same keys for an owner's snapshots."""
        return KeyRing(self._keys, owner)

    def seal(self, data: bytes, context: bytes) -> bytes:
        """See `Sealer.seal`."""
        if self.key_id is None:
            return data
        head = MAGIC + bytes.fromhex(self.key_id)
        # Chance repeats none of 2^32 nonces (frames, so 4 PiB) of a key: the odds are below 2^-32.
        nonce = os.urandom(_NONCE_BYTES)
        return b"".join((head, nonce, self._ciphers[self.key_id].encrypt(nonce, data, head + context)))

    def open(self, data: bytes, context: bytes) -> bytes:
        """See `Sealer.open`."""
        wanted = key_of(data)
        if wanted is None:
            return data
        cipher = self._ciphers.get(wanted)
        if cipher is None:
            msg = (
                f"{_shown(context)} is sealed with the key {wanted}, which is not known here ({self._known()}). Put "
                "that key behind the first one in HIBERNAUT_SNAPSHOT_KEYS_FILE (or HIBERNAUT_SNAPSHOT_KEYS) of every "
                "worker and gateway, and start them again."
            )
            raise SnapshotSealed(msg)
        try:
            opened = memoryview(data)
            start = _HEAD + _NONCE_BYTES
            return cipher.decrypt(data[_HEAD:start], opened[start:], data[:_HEAD] + context)
        except (InvalidTag, ValueError):
            msg = f"{_shown(context)} does not open with its key {wanted}: it was changed, or belongs elsewhere."
            raise SnapshotDamaged(msg) from None

    def _known(self) -> str:
        if not self.names:
            return "no key is"
        return ", ".join(f"{key_id} is, as {name!r}" for key_id, name in self.names.items())


def key_of(data: bytes) -> str | None:
    """Return the id of the key that data is sealed with; None: it is not sealed."""
    if data[: len(MAGIC)] != MAGIC:
        return None
    return data[len(MAGIC) : _HEAD].hex()


def _shown(context: bytes) -> str:
    return "A frame of a pack" if context == FRAME else f"The object {context.decode(errors='replace')}"


PLAIN = KeyRing(())
"""Seals nothing, and opens what is not sealed."""
