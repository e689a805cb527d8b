"""Digests of content for audit lines: with a key they tell nothing to whoever does not have it."""

import hashlib
import hmac
from typing import Protocol

KEY_BYTES = 32
_ID_DIGITS = 8


class Digest(Protocol):
    """A digest that grows."""

    def update(self, data: bytes, /) -> None:
        """Take the next bytes."""
        ...

    def hexdigest(self) -> str:
        """The digest of all bytes so far."""
        ...


class Digests:
    """Makes digests under one key, or plain ones without."""

    def __init__(self, key: bytes = b"") -> None:
        """Without a key the digests are plain SHA-256, and say so: a short content can be guessed from them."""
        self._key = key
        name = hashlib.sha256(b"hibernaut audit key\0" + key).hexdigest()[:_ID_DIGITS]
        self.scheme = f"hmac-sha256:{name}" if key else "sha256"
        """Begins every digest; with the id of the key, which does not tell the key."""

    def __repr__(self) -> str:
        """Never the key."""
        return f"Digests({self.scheme})"

    def begin(self) -> Digest:
        """A digest of a content that comes in pieces; `told` finishes it."""
        return hmac.new(self._key, digestmod=hashlib.sha256) if self._key else hashlib.sha256()

    def told(self, digest: Digest) -> str:
        """A finished digest as lines have it."""
        return f"{self.scheme}:{digest.hexdigest()}"

    def of(self, data: bytes) -> str:
        """The digest of a content that is at hand."""
        digest = self.begin()
        digest.update(data)
        return self.told(digest)
