"""The image port: base images of one host's container engine, whole, as archives."""

from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class ImageInfo:
    """An image that is on the host."""

    image_id: str
    """`sha256:` and 64 hexadecimal digits."""
    names: tuple[str, ...]
    """Its tags on this host."""


class Images(Protocol):
    """Base images of one host.

    Errors: SandboxRefused (the daemon rejects the archive), SandboxUnavailable (the daemon does not answer; retryable).
    """

    async def inspect(self, image_id: str) -> ImageInfo | None:
        """Describe an image, or None when it is not on the host."""
        ...

    def save(self, image_id: str) -> AsyncGenerator[bytes]:
        """Stream the image as an archive that bears no name: loading it moves no tag."""
        ...

    async def load(self, archive: AsyncIterator[bytes]) -> None:
        """Load an archive; what `archive` raises is raised, and leaves no image behind."""
        ...
