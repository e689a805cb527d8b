"""An MCP server that is a program of ours: its process, with all that it starts, and its lines, which have a bound.

The package's own such transport takes a line of any length, copies it anew with each piece that arrives, and leaves the
children of a program that ended by itself.
"""

import re
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from typing import TextIO, TypeVar, cast

import anyio
from anyio.abc import ByteReceiveStream, ByteSendStream, Process
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from mcp import StdioServerParameters
from mcp.client._transport import TransportStreams
from mcp.client.stdio import get_default_environment
from mcp.os.posix.utilities import terminate_posix_process_tree
from mcp.shared.message import SessionMessage
from mcp_types import PARSE_ERROR, ErrorData, JSONRPCError, jsonrpc_message_adapter

from activities.adapters.mcp_http import MAX_MESSAGE

FLUSH_S = 0.5
"""Seconds for what was accepted to be written before stdin ends."""
EXIT_S = 2.0
"""Seconds for the program to exit once its stdin has ended, and again once it was asked to by a signal."""
LAST_WORDS_S = 1.0
"""Seconds in which the output of a program that has exited is still read: a child of its may keep the pipe open."""
_POLL_S = 0.02
_WATCH_S = 0.25
_HEAD = 1_000
_ID = re.compile(rb'"id"\s*:\s*(\d{1,15})\b')
_GONE = (anyio.ClosedResourceError, anyio.BrokenResourceError, OSError)

_Pipe = TypeVar("_Pipe", ByteReceiveStream, ByteSendStream)
_Out = MemoryObjectSendStream[SessionMessage | Exception]


@asynccontextmanager
async def served(parameters: StdioServerParameters, errlog: TextIO) -> AsyncGenerator[TransportStreams]:
    """Start a program, and speak with it line by line; at the end nothing of it is left.

    Raises:
        OSError: it cannot be started.
    """
    process = await anyio.open_process(
        [parameters.command, *parameters.args],
        env=get_default_environment() | (parameters.env or {}),
        stderr=errlog,
        cwd=parameters.cwd,
        start_new_session=True,
    )
    # No await from here to the `try`: a cancellation in between would leave the process.
    out, read = anyio.create_memory_object_stream[SessionMessage | Exception](0)
    write, accepted = anyio.create_memory_object_stream[SessionMessage](0)
    written = anyio.Event()
    async with anyio.create_task_group() as group:
        group.start_soon(_read, _pipe(process.stdout), out)
        group.start_soon(_write, _pipe(process.stdin), accepted, out, written)
        group.start_soon(_watch, process, out)
        try:
            yield read, write
        finally:
            with anyio.CancelScope(shield=True):
                # What it says from now on is read and thrown away: a program that cannot write may not end.
                read.close()
                write.close()
                with anyio.move_on_after(FLUSH_S):
                    await written.wait()
                await _end(process)
            group.cancel_scope.cancel()


async def _read(stdout: ByteReceiveStream, out: _Out) -> None:
    async with out:
        parts: list[bytes] = []
        size = 0
        with suppress(*_GONE, anyio.EndOfStream):
            while True:
                *ends, rest = (await stdout.receive()).split(b"\n")
                for end in ends:
                    size += len(end)
                    line = b"".join((*parts, end)) if size <= MAX_MESSAGE else None
                    message = _parsed(line) if line is not None else _too_long(b"".join(parts)[:_HEAD], size)
                    parts, size = [], 0
                    with suppress(anyio.ClosedResourceError, anyio.BrokenResourceError):
                        await out.send(message)
                size += len(rest)
                if size <= MAX_MESSAGE:
                    parts.append(rest)


def _parsed(line: bytes) -> SessionMessage | Exception:
    try:
        message = jsonrpc_message_adapter.validate_json(line.decode("utf-8", "replace"), by_name=False)
    except ValueError as error:
        return error
    return SessionMessage(message)


def _too_long(head: bytes, size: int) -> SessionMessage | Exception:
    """The answer in the place of one that is too long: who waits for it is told, and the session goes on."""
    told = f"a message of {size} bytes, and the limit is {MAX_MESSAGE}"
    found = _ID.search(head)
    if found is None:
        return ValueError(told)
    error = ErrorData(code=PARSE_ERROR, message=told)
    return SessionMessage(JSONRPCError(jsonrpc="2.0", id=int(found[1]), error=error))


async def _write(
    stdin: ByteSendStream, accepted: MemoryObjectReceiveStream[SessionMessage], out: _Out, written: anyio.Event
) -> None:
    try:
        async with accepted:
            async for message in accepted:
                line = message.message.model_dump_json(by_alias=True, exclude_unset=True)
                await stdin.send(line.encode("utf-8", "replace") + b"\n")
    except _GONE:
        # Whoever waits for an answer learns that there will be none.
        await out.aclose()
    finally:
        written.set()


async def _watch(process: Process, out: _Out) -> None:
    """End the session with the program, even where a child of its keeps the pipe open."""
    while process.returncode is None:  # noqa: ASYNC110  # `wait` waits for the end of the pipes as well
        await anyio.sleep(_WATCH_S)
    await anyio.sleep(LAST_WORDS_S)
    await out.aclose()


async def _end(process: Process) -> None:
    with suppress(*_GONE):
        await _pipe(process.stdin).aclose()
    if not await _exited(process):
        await terminate_posix_process_tree(process, EXIT_S)
        await _exited(process)
    # Its process group is its own: what is still in there was started by it, and nobody else ends it.
    await terminate_posix_process_tree(process, EXIT_S)
    with suppress(*_GONE):
        await _pipe(process.stdout).aclose()
    # A daemon of its may hold the pipe; nothing public closes our end then.
    transport = cast("object", getattr(cast("object", getattr(process, "_process", None)), "_transport", None))
    close = cast("object", getattr(transport, "close", None))
    if callable(close):
        with suppress(PermissionError):
            close()


async def _exited(process: Process) -> bool:
    with anyio.move_on_after(EXIT_S):
        while process.returncode is None:  # noqa: ASYNC110  # as above
            await anyio.sleep(_POLL_S)
    return process.returncode is not None


def _pipe(pipe: _Pipe | None) -> _Pipe:
    if pipe is None:
        raise OSError("the program has no pipes")
    return pipe
