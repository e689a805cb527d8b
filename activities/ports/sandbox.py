"""The sandbox port: a container that runs commands for an agent."""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Protocol

from hibernaut.models import FileEntry, SandboxSpec


@dataclass(frozen=True, slots=True)
class SandboxIdentity:
    """Whose container it is; every label bears it."""

    agent_id: str
    agent_uid: str
    generation: int


@dataclass(frozen=True, slots=True)
class Container:
    """A started container."""

    sandbox_id: str
    image_id: str


@dataclass(frozen=True, slots=True)
class CommandRequest:
    """One command. `exec_id` is its identity: the same on every retry."""

    exec_id: str
    command: str
    timeout_ms: int


@dataclass(frozen=True, slots=True)
class CommandEnd:
    """How a command ended. Its output was handed to the sinks before."""

    kind: str
    """exit, timeout, interrupted or unknown."""
    exit_code: int | None
    duration_ms: int
    stdout_bytes: int
    stderr_bytes: int


Sink = Callable[[str, bytes], None]
"""Receives (`stdout` or `stderr`, bytes) in order."""


class Sandboxes(Protocol):
    """Creates, uses and destroys sandboxes on one host.

    Errors: SandboxLost when the container is gone or was restarted, ImageNotFound, SandboxRefused (the daemon
    rejects the spec), SandboxUnavailable (the daemon does not answer; retryable).
    """

    async def check(self) -> None:
        """Try the daemon; SandboxUnavailable when it does not answer."""
        ...

    async def acquire(self, identity: SandboxIdentity, spec: SandboxSpec, image_id: str | None) -> Container:
        """Create and start a container; a half-made one of the same generation is replaced, older ones removed."""
        ...

    async def run(
        self, sandbox_id: str, request: CommandRequest, sink: Sink, interrupted: Callable[[], bool]
    ) -> CommandEnd:
        """Run one command at most once per exec id, or attach to it, and wait for its end."""
        ...

    async def destroy(self, agent_uid: str, generation: int) -> list[str]:
        """Remove every container of the agent up to this generation, with its volumes; their ids."""
        ...

    def read_file(self, sandbox_id: str, path: str) -> AsyncIterator[bytes]:
        """Stream a file out of a running container."""
        ...

    async def list_files(self, sandbox_id: str, path: str) -> list[FileEntry]:
        """The entries of a directory in a running container, by name; a file lists as itself."""
        ...

    async def put_file(self, sandbox_id: str, path: str, mode: int, chunks: AsyncIterator[bytes]) -> int:
        """Write a file into a running container; bytes written."""
        ...

    async def close(self) -> None:
        """Release connections."""
        ...
