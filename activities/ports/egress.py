"""The egress ports: who opens a way out for a sandbox, who resolves names, and who is told what was decided."""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Protocol

from activities.ports.sandbox import CommandEnd, Sink
from hibernaut.models import Network, SecretSpec
from hibernaut.models.network_change import NetworkReport

PROXY_PORT = 3128
"""On the sandbox's own 127.0.0.1."""
PROXY_ENV = {
    name: value
    for key, value in (
        ("HTTP_PROXY", f"http://127.0.0.1:{PROXY_PORT}"),
        ("HTTPS_PROXY", f"http://127.0.0.1:{PROXY_PORT}"),
        ("NO_PROXY", "localhost,127.0.0.1,::1"),
    )
    # Programs agree on the names and not on their case.
    for name in (key, key.lower())
}
"""Variables of a sandbox whose network is an allowlist."""


@dataclass(frozen=True, slots=True)
class Tenant:
    """The sandbox at the other end of a way out: whoever connects to its listener is it, and nobody else can."""

    agent_id: str
    agent_uid: str
    generation: int
    sandbox_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EgressEvent:
    """A decision about a connection, or the end of one that was let through."""

    at: datetime
    tenant: Tenant
    kind: Literal["decided", "ended"]
    connection: int
    """Tells the connections of one proxy process apart; an `ended` bears the number of its `decided`."""
    method: str
    """`CONNECT`, or the method of a plain HTTP request; empty when none could be read."""
    host: str
    """As it was asked for, shortened; empty when nothing that names a host could be read."""
    port: int
    allowed: bool
    reason: str
    """Why it was refused or how it ended; empty for what was simply let through."""
    address: str = ""
    """Which address it was connected to."""
    sent: int = 0
    """Bytes that the sandbox sent through it; of an `ended`."""
    received: int = 0
    secrets: tuple[str, ...] = ()
    """Names of the secrets whose values took the place of placeholders; of an `ended`, all of them."""


EgressSink = Callable[[EgressEvent], None]
"""Is told every event, in order, before its consequence reaches the sandbox; must not block."""

Resolver = Callable[[str, int], Awaitable[list[str]]]
"""The addresses of a host name; OSError when it has none."""


class Unseen(Protocol):
    """Makes the values of one sandbox's secrets unseen."""

    def error(self, error: BaseException) -> None:
        """In the texts of an error, in place."""
        ...

    def output(self, sink: Sink) -> "UnseenOutput":
        """In the output of one command, which is handed on to a sink."""
        ...


class UnseenOutput(Protocol):
    """The output of one command, on its way."""

    async def feed(self, stream: str, data: bytes) -> None:
        """Take the next bytes of a stream."""
        ...

    async def ended(self, end: CommandEnd) -> CommandEnd:
        """Hand on what was held back; the end as it is told."""
        ...


class Egress(Protocol):
    """Opens and closes the ways out of one host's sandboxes. All methods block; call them in threads."""

    def check(self, runtime: str, secrets: Iterable[str] = (), agent_id: str | None = None) -> None:
        """Whether sandboxes of this runtime can have a way out here, and one agent, or any, these secrets.

        Raises:
            SandboxRefused: They cannot; says what is missing.
        """
        ...

    def admit(
        self, tenant: Tenant, network: Network, number: int = 0, secrets: Mapping[str, SecretSpec] | None = None
    ) -> None:
        """Open the way out of a container, or change the rules of one that is open.

        `number` counts changes: rules of a lower one than the container has are late, and change nothing.
        The secrets are those of its start when None.

        Raises:
            SandboxRefused: A secret has no value here.
            SandboxUnavailable: The proxy does not answer.
            SandboxLost: The container does not run.
        """
        ...

    def readmit(self, sandbox_id: str) -> None:
        """The same for a container started again, if it has a way out; no error when the keeper has to mend it."""
        ...

    def dismiss(self, sandbox_id: str) -> None:
        """Forget a container that is gone; nothing happens when it had no way out."""
        ...

    def blocked(self, sandbox_id: str, since: float) -> tuple[str, ...]:
        """What was blocked since a moment of `time.monotonic`, each as `host:port (why)`, without repetition."""
        ...

    def report(self, sandbox_id: str, mark: str) -> NetworkReport:
        """What was decided since the report that gave this mark; nothing when nobody knows."""
        ...

    def redaction(self, sandbox_id: str) -> Unseen | None:
        """What makes the values of a sandbox's secrets unseen; None when it has none.

        Raises:
            SandboxUnavailable: The values cannot be read.
        """
        ...
