"""May this sandbox reach this host: by its rules, then by the addresses the name leads to."""

import asyncio
import ipaddress
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from http import HTTPStatus

from activities.egress.addresses import Net, Reach
from activities.ports.egress import Resolver
from hibernaut.models import Network
from hibernaut.models.network import HostRule, as_address

RESOLVE_S = 10.0
RESOLVES_AT_ONCE = 8
"""Of one sandbox: each takes a thread of the proxy, which others need too."""
MAX_ADDRESSES = 6
"""Of those a name has that are tried."""


class Refused(Exception):
    """The proxy does not do what the sandbox asks; the text says why, for the model."""

    def __init__(self, text: str, *, status: HTTPStatus, blocked: bool = False) -> None:
        super().__init__(text)
        self.status = status
        self.blocked = blocked
        """Whether it is the policy that forbids it."""


def blocked(host: str, why: str) -> Refused:
    """The refusal of a host by policy."""
    return Refused(f"blocked by policy: {host} ({why})", status=HTTPStatus.FORBIDDEN, blocked=True)


async def resolve(host: str, port: int) -> list[str]:
    """The addresses the machine's own resolver knows for a name."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


@dataclass(frozen=True, slots=True)
class Way:
    """Where a connection may go."""

    host: str
    port: int
    addresses: tuple[str, ...]
    """Checked; to be connected to as they are, or what was checked is not what is reached."""


class Policy:
    """The rules of one sandbox."""

    def __init__(self, network: Network, reachable: Iterable[Net] = (), resolver: Resolver = resolve) -> None:
        """Use the rules of a spec.

        Args:
            network: The part of the spec.
            reachable: See `Reach`.
            resolver: Asked for the addresses of names that a rule allows, and of no other.
        """
        self._rules = tuple(HostRule.parse(text) for text in network.allow)
        private = tuple(ipaddress.ip_network(text) for text in network.allow_private)
        self._reach = Reach(private=private, reachable=reachable)
        self._resolver = resolver
        self._resolving = asyncio.Semaphore(RESOLVES_AT_ONCE)

    def allows(self, host: str, port: int) -> bool:
        """Whether a rule names this host, given as `as_host` spells it, and port."""
        return any(rule.names(host) and port in rule.ports for rule in self._rules)

    async def way(self, host: str, port: int) -> Way:
        """Where to connect for this host, given as `as_host` spells it.

        Raises:
            Refused: A rule is missing, or the name leads where the sandbox may not go, or nowhere.
        """
        about = [rule for rule in self._rules if rule.names(host)]
        if not about:
            raise blocked(host, "not in the allowlist")
        if not any(port in rule.ports for rule in about):
            ports = ", ".join(map(str, sorted({port for rule in about for port in rule.ports})))
            raise blocked(f"{host}:{port}", f"allowed ports: {ports}")
        literal = as_address(host)
        found = [host] if literal is not None else await self._addresses(host, port)
        good: list[str] = []
        faults: list[str] = []
        for text in found:
            address = as_address(text.partition("%")[0])
            fault = "is no address" if address is None else self._reach.fault(address, named=literal is not None)
            if fault is None:
                good.append(text)
            else:
                faults.append(f"{text} {fault}")
        if not good:
            raise blocked(host, "; ".join(faults[:3]))
        return Way(host, port, tuple(good[:MAX_ADDRESSES]))

    async def _addresses(self, host: str, port: int) -> list[str]:
        try:
            async with asyncio.timeout(RESOLVE_S), self._resolving:
                found = await self._resolver(host, port)
        except (OSError, TimeoutError, UnicodeError) as error:
            why = "no answer in time" if isinstance(error, TimeoutError) else error
            raise Refused(f"{host} does not resolve: {why}", status=HTTPStatus.BAD_GATEWAY) from error
        if not found:
            raise Refused(f"{host} does not resolve: it has no address", status=HTTPStatus.BAD_GATEWAY)
        return found
