"""The Docker adapter of the image port: `docker save` and `docker load`, streamed both ways."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from typing import Any

from docker.errors import ImageNotFound as DockerImageNotFound

from activities.adapters.docker_client import Daemon, translated
from activities.errors import SandboxRefused, SandboxUnavailable
from activities.ports.images import ImageInfo

_PIECE = 1 << 20
_PATIENCE_S = 5.0
_END = bytes(1024)
"""The two empty blocks at the end of a tar archive."""


class DockerImages:
    """Images of one Docker daemon; implements the port `Images`."""

    def __init__(self, daemon: Daemon) -> None:
        """Use this daemon."""
        self._daemon = daemon

    async def inspect(self, image_id: str) -> ImageInfo | None:
        """See the port."""

        def look() -> ImageInfo | None:
            try:
                found = self._daemon.api.inspect_image(image_id)
            except DockerImageNotFound:
                return None
            return ImageInfo(image_id=str(found["Id"]), names=tuple(found.get("RepoTags") or ()))

        return await self._daemon.call(look)

    async def save(self, image_id: str) -> AsyncGenerator[bytes]:
        """See the port."""
        response = await self._daemon.call(lambda: self._open(image_id))
        pieces: Iterator[bytes] = response.iter_content(_PIECE)
        tail = b""
        try:
            while piece := await self._next(pieces):
                tail = (tail + piece)[-len(_END) :]
                yield piece
        finally:
            # docker-py's own stream leaves the connection to the garbage collector.
            response.close()
        if tail != _END:
            # The daemon says what went wrong at the end of what looks like a whole answer.
            why = tail.strip(b"\0").decode("utf-8", "replace")[-300:]
            raise SandboxUnavailable(f"the Docker daemon broke off the archive of image {image_id}: {why}")

    async def load(self, archive: AsyncIterator[bytes]) -> None:
        """See the port."""
        feed = _Feed(archive)
        loading = asyncio.ensure_future(self._daemon.call(lambda: self._load(feed)))
        try:
            await asyncio.shield(loading)
        except asyncio.CancelledError:
            feed.stop()
            # The caller must not close the archive under the thread that reads it.
            await asyncio.wait({loading})
            loading.exception()
            raise

    async def _next(self, pieces: Iterator[bytes]) -> bytes:
        reading = asyncio.ensure_future(self._daemon.call(lambda: next(pieces, b"")))
        try:
            return await asyncio.shield(reading)
        except asyncio.CancelledError:
            # The connection must not be closed under the thread that reads from it; a daemon that hangs keeps nobody.
            await asyncio.wait({reading}, timeout=_PATIENCE_S)
            if reading.done() and not reading.cancelled():
                reading.exception()
            raise

    def _open(self, image_id: str) -> Any:  # noqa: ANN401  # a response of requests, by way of docker-py
        api = self._daemon.streams
        response = api.get(f"{api.base_url}/v{api.api_version}/images/{image_id}/get", stream=True)
        response.raise_for_status()
        return response

    def _load(self, feed: "_Feed") -> None:
        with translated():
            for line in self._daemon.streams.load_image(iter(feed), quiet=True):
                if "error" in line:
                    raise SandboxRefused(f"the Docker daemon refused the image: {line['error']}")


class _Feed:
    """Hands what an asynchronous iterator yields to a thread that iterates."""

    def __init__(self, source: AsyncIterator[bytes]) -> None:
        self._source = source
        self._loop = asyncio.get_running_loop()
        self._stopped = False

    def stop(self) -> None:
        """Let a thread whose caller is gone end: the daemon drops an archive that breaks off."""
        self._stopped = True

    def __iter__(self) -> Iterator[bytes]:
        while not self._stopped:
            piece = asyncio.run_coroutine_threadsafe(self._next(), self._loop).result()
            if not piece:
                return
            yield piece
        raise SandboxRefused("the loading of the image was cancelled")

    async def _next(self) -> bytes:
        return await anext(self._source, b"")
