"""The files of an agent's computer, whether it runs, sleeps or is closed."""

import os
import stat
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
from pydantic import TypeAdapter

from hibernaut._gateway import GatewayClient, agent_path
from hibernaut.contracts import PutFileResult
from hibernaut.errors import FileMissing, FileUnsuitable, InvalidPath
from hibernaut.models import FileEntry

CHUNK = 256 * 1024
_ENTRIES = TypeAdapter(list[FileEntry])


class AgentFiles:
    """Reads come from the container while it runs and from the newest snapshot while it sleeps.

    With `snapshot` (a number, a name or `latest`) they come from that one, whatever the agent does: from what it had
    changed over its image by then.

    A write reaches the computer itself, which wakes a sleeping agent, and is durable in a snapshot when it returns.
    All paths are absolute paths inside the agent's computer.
    """

    def __init__(self, agent_id: str, gateway: GatewayClient) -> None:
        """Made by `AgentHandle.files`."""
        self._agent_id = agent_id
        self._gateway = gateway

    async def list(self, path: str = "/", *, snapshot: int | str | None = None) -> "list[FileEntry]":
        """The entries of a directory, by name; a file lists as itself.

        While the agent sleeps these are the paths it changed over its image.

        Raises:
            FileMissing: no such path.
            InvalidPath: the path is not absolute.
            SnapshotMissing: there is no such snapshot.
        """
        body = await self._gateway.get_json(agent_path(self._agent_id, "files"), _params(path, snapshot))
        return _ENTRIES.validate_python(body["entries"])

    async def read(self, path: str, *, snapshot: int | str | None = None) -> bytes:
        """The whole of a file, in memory. For big ones see `open` and `download`.

        Raises:
            FileMissing: no such file.
            SandboxAsleep: the file is the image's own, and the agent sleeps: wake it to read it.
        """
        async with self.open(path, snapshot=snapshot) as chunks:
            return b"".join([chunk async for chunk in chunks])

    async def read_text(self, path: str, encoding: str = "utf-8") -> str:
        """The whole of a text file."""
        return (await self.read(path)).decode(encoding)

    @asynccontextmanager
    async def open(self, path: str, *, snapshot: int | str | None = None) -> AsyncGenerator[AsyncIterator[bytes]]:
        """Open a file and stream it: `async with agent.files.open(path) as chunks: async for chunk in chunks`."""
        params = _params(path, snapshot)
        async with self._gateway.stream(agent_path(self._agent_id, "files/content"), params) as response:
            yield response.aiter_bytes(CHUNK)

    async def write(self, path: str, data: bytes | str | AsyncIterable[bytes], *, mode: int = 0o644) -> int:
        """Write a file whole, replacing what was there; missing directories are made.

        Args:
            path: Where to.
            data: Its content; text is written as UTF-8, an async iterable of chunks is streamed.
            mode: Permission bits.

        Returns:
            The bytes written.

        Raises:
            FileTooLarge: more than the gateway takes.
            FileUnsuitable: the path is a directory, or something on the way to it is none.
        """
        body = data.encode() if isinstance(data, str) else data
        params = {"path": _checked(path), "mode": format(mode, "04o")}
        answer = await self._gateway.put(agent_path(self._agent_id, "files/content"), body, params)
        return PutFileResult.model_validate(answer).size

    async def upload(self, local: str | os.PathLike[str], path: str, *, mode: int | None = None) -> int:
        """Write a local file into the computer; permission bits as they are here unless given. Bytes written."""
        source = Path(local)
        try:
            info = await anyio.Path(source).stat()
        except OSError as error:
            raise FileMissing(f"The local file {source} cannot be read: {error.strerror}.") from error
        if not stat.S_ISREG(info.st_mode):
            raise FileUnsuitable(f"{source} is not a plain file.")
        bits = stat.S_IMODE(info.st_mode) & 0o777 if mode is None else mode
        return await self.write(path, _chunks(source), mode=bits)

    async def download(self, path: str, local: str | os.PathLike[str], *, snapshot: int | str | None = None) -> int:
        """Read a file into a local one, which appears only when it is whole. Bytes read."""
        target = Path(local)
        partial = anyio.Path(target.with_name(f".{target.name}.part"))
        size = 0
        async with self.open(path, snapshot=snapshot) as chunks:
            try:
                async with await partial.open("wb") as out:
                    async for chunk in chunks:
                        size += await out.write(chunk)
                await partial.rename(target)
            finally:
                await partial.unlink(missing_ok=True)
        return size


async def _chunks(path: Path) -> AsyncIterator[bytes]:
    async with await anyio.open_file(path, "rb") as file:
        while chunk := await file.read(CHUNK):
            yield chunk


def _params(path: str, snapshot: int | str | None) -> dict[str, str]:
    params = {"path": _checked(path)}
    return params if snapshot is None else {**params, "snapshot": str(snapshot)}


def _checked(path: str) -> str:
    if not path.startswith("/"):
        raise InvalidPath(f"The path {path!r} is not absolute.", hint="Write it from the root: /home/agent/report.md.")
    if "\0" in path:
        raise InvalidPath("A path cannot hold a NUL character.")
    return path
