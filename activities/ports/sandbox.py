"""The sandbox port: a container that runs commands for an agent."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from hibernaut.models import FileEntry, OutcomeKind, SandboxSpec


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
    started_at: str
    """Docker's `State.StartedAt`: differs after every restart."""


@dataclass(frozen=True, slots=True)
class ContainerState:
    """What the daemon says of a container that exists."""

    running: bool
    """Whether it has processes; a paused one has."""
    paused: bool
    started_at: str
    """Docker's `State.StartedAt`."""
    exit_code: int | None
    """None while it runs."""
    oom_killed: bool
    """As the daemon says; a command killed for lack of memory does not set it."""
    runtime: str
    """`runc`, `runsc` or another name the daemon knows."""
    labels: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Owned:
    """A container on this host that bears our labels."""

    sandbox_id: str
    agent_id: str
    agent_uid: str
    generation: int
    running: bool
    paused: bool
    created_at: datetime
    """By the host's own clock (UTC)."""


@dataclass(frozen=True, slots=True)
class CommandRequest:
    """One command. `exec_id` is its identity: the same on every retry."""

    exec_id: str
    command: str
    timeout_ms: int
    started_at: str = ""
    """`State.StartedAt` of the container the command is meant for; empty: of whichever runs."""
    max_output_bytes: int = 1 << 30
    """Bytes of stdout and stderr together after which the command is ended."""
    attach_only: bool = False
    """Start nothing: an id the journal does not know is `not_run`."""


@dataclass(frozen=True, slots=True)
class CommandEnd:
    """How a command ended. Its output was handed to the sinks before."""

    kind: OutcomeKind
    exit_code: int | None
    """None unless `kind` is exit."""
    duration_ms: int
    stdout_bytes: int
    stderr_bytes: int
    background: tuple[str, ...] = ()
    """Processes it left running, each `PID NAME`; at most 20."""
    detail: str = ""
    """What is known beyond the kind, as a sentence for the model."""


Sink = Callable[[str, bytes], Awaitable[None] | None]
"""Receives (`stdout` or `stderr`, bytes) in order; while it is awaited nothing more is read."""


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
        """Run one command at most once per exec id, or attach to it, and wait for its end.

        Raises:
            SandboxLost: The container is gone or stopped; or it was restarted since `request.started_at`, and then the
                error holds what became of the command. Nothing is started in it.
            SandboxUnavailable: The same call attaches to the command.
        """
        ...

    async def inspect(self, sandbox_id: str) -> ContainerState:
        """What the daemon says of a container; SandboxLost when it has none of this id."""
        ...

    async def start(self, sandbox_id: str) -> str:
        """Start a stopped container, its files as they were; its new `State.StartedAt`."""
        ...

    async def pause(self, sandbox_id: str) -> None:
        """Freeze every process of a container; nothing happens when it is frozen already."""
        ...

    async def unpause(self, sandbox_id: str) -> None:
        """Thaw a container; nothing happens when it is not frozen."""
        ...

    async def owned(self) -> list[Owned]:
        """Every container of agents that this host, for this deployment, has made; running or not."""
        ...

    async def remove(self, sandbox_id: str) -> None:
        """Remove a container with its volumes; nothing happens when it is gone."""
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
