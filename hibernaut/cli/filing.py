"""`hibernaut files`: the files of an agent's computer."""

import sys
from collections.abc import AsyncIterator
from pathlib import Path, PurePosixPath
from typing import Annotated

import anyio.to_thread
import typer

from hibernaut.cli.console import Format, session, size
from hibernaut.cli.options import Name, Output, connected
from hibernaut.cli.render import files_table
from hibernaut.client import AgentClient
from hibernaut.errors import InvalidRequest
from hibernaut.models import FileEntry

app = typer.Typer(help="List, read, write an agent's files.", no_args_is_help=True)

Remote = Annotated[str, typer.Argument(metavar="PATH", help="An absolute path in the agent's computer.")]
Snapshot = Annotated[
    str | None,
    typer.Option("--snapshot", metavar="N", help="Read this snapshot: a number, a name, or latest."),
]
CHUNK = 256 * 1024


@app.command("ls")
def ls(
    name: Name,
    path: Annotated[str, typer.Argument(metavar="[PATH]", help="A directory or a file.", show_default=False)] = "/",
    *,
    snapshot: Snapshot = None,
    output: Output = Format.TEXT,
) -> None:
    """List a directory; of a sleeping agent or a snapshot, what was changed over the image."""
    del output

    async def work(client: AgentClient) -> list[FileEntry]:
        return await client.get(name).files.list(path, snapshot=snapshot)

    entries = connected(work)
    if session.json:
        session.data(entries)
    else:
        session.out.print(files_table(entries), end="\n" if entries else "")


@app.command("cat")
def cat(name: Name, path: Remote, *, snapshot: Snapshot = None) -> None:
    """Write a file to standard output, byte for byte."""

    async def work(client: AgentClient) -> None:
        async with client.get(name).files.open(path, snapshot=snapshot) as chunks:
            async for chunk in chunks:
                sys.stdout.buffer.write(chunk)
        sys.stdout.buffer.flush()

    connected(work)


@app.command("put")
def put(
    name: Name,
    local: Annotated[str, typer.Argument(metavar="LOCAL", help="A local file, or - for standard input.")],
    path: Annotated[str, typer.Argument(metavar="PATH", help="Where to; ending in / keeps the file's name.")],
    mode: Annotated[str | None, typer.Option(help="Permission bits, octal; the local file's by default.")] = None,
    output: Output = Format.TEXT,
) -> None:
    """Write a local file into the agent's computer, waking it if it sleeps."""
    del output
    bits = _mode(mode)
    if path.endswith("/"):
        if local == "-":
            raise InvalidRequest("Standard input has no name to keep.", hint="Give the whole path.")
        path = str(PurePosixPath(path) / Path(local).name)

    async def work(client: AgentClient) -> int:
        files = client.get(name).files
        if local == "-":
            return await files.write(path, _stdin(), mode=0o644 if bits is None else bits)
        return await files.upload(local, path, mode=bits)

    written = connected(work)
    if session.json:
        session.data({"path": path, "size": written})
    else:
        session.out.print(f"{path}: {size(written)}")


@app.command("get")
def get(
    name: Name,
    path: Remote,
    local: Annotated[Path | None, typer.Argument(metavar="[LOCAL]", help="Where to; its own name here.")] = None,
    *,
    snapshot: Snapshot = None,
    output: Output = Format.TEXT,
) -> None:
    """Copy a file out of the agent's computer."""
    del output
    base = PurePosixPath(path).name
    target = local if local is not None else Path(base or "download")
    if target.is_dir():
        target = target / base

    async def work(client: AgentClient) -> int:
        return await client.get(name).files.download(path, target, snapshot=snapshot)

    read = connected(work)
    if session.json:
        session.data({"path": path, "local": str(target), "size": read})
    else:
        session.out.print(f"{target}: {size(read)}")


async def _stdin() -> AsyncIterator[bytes]:
    while chunk := await anyio.to_thread.run_sync(sys.stdin.buffer.read, CHUNK):
        yield chunk


def _mode(text: str | None) -> int | None:
    if text is None:
        return None
    try:
        value = int(text, 8)
    except ValueError:
        value = -1
    if not 0 <= value <= 0o7777:  # noqa: PLR2004  # all permission bits
        raise InvalidRequest(f"{text!r} are no permission bits.", hint="Write them in octal, such as 644 or 0755.")
    return value
