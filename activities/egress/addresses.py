"""Which addresses a sandbox may be connected to, whatever name led to them."""

import ipaddress
import socket
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress

from hibernaut.models.network import Address

Net = ipaddress.IPv4Network | ipaddress.IPv6Network

_UNICAST = ipaddress.ip_network("2000::/3")
_NOT_PUBLIC = tuple(
    ipaddress.ip_network(text)
    for text in (
        # What older releases of the standard library take for public.
        "192.0.0.0/24",
        "192.88.99.0/24",
        "2001::/23",
        "2002::/16",
        "3fff::/20",
    )
)
_METADATA = tuple(
    ipaddress.ip_network(text)
    for text in (
        # Of clouds, where it is not link-local: Azure, Alibaba, Oracle, AWS over IPv6, Google over IPv6.
        "168.63.129.16/32",
        "100.100.100.200/32",
        "192.0.0.192/32",
        "fd00:ec2::/32",
        "fd20:ce::254/128",
    )
)
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


def is_own(address: Address) -> bool:
    """Whether it is one of this machine's own: the kernel reaches those from themselves."""
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6  # noqa: PLR2004  # IP versions
    with suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as probe:
        probe.connect((str(address), 9))
        return str(probe.getsockname()[0]) == str(address)
    return False


class Reach:
    """What lies within reach of one sandbox."""

    def __init__(
        self,
        *,
        private: Iterable[Net] = (),
        reachable: Iterable[Net] = (),
        own: Callable[[Address], bool] = is_own,
    ) -> None:
        """Public addresses, and these.

        Args:
            private: Networks that the sandbox's spec names.
            reachable: Networks that the host's operator lets specs name although the host itself, its link or its
                cloud answers there.
            own: Tells the host's own addresses.
        """
        self._private = tuple(private)
        self._reachable = tuple(reachable)
        self._own = own

    def fault(self, address: Address, *, named: bool) -> str | None:
        """Why a connection to it is refused; None when it is not.

        Args:
            address: Where the connection would go.
            named: Whether a rule of the sandbox is this very address.
        """
        return next(filter(None, (self._fault(one, named=named) for one in _meant(address))), None)

    def _fault(self, address: Address, *, named: bool) -> str | None:
        if address.is_multicast or address.is_unspecified or str(address) == "255.255.255.255":
            return "is no address of one host"
        if self._guarded(address) and not _within(address, self._reachable):
            return "is the host's own, or its link's or cloud's"
        if named or _within(address, self._private):
            return None
        return None if _public(address) else "is not a public address"

    def _guarded(self, address: Address) -> bool:
        special = address.is_loopback or address.is_link_local or _within(address, _METADATA)
        # 0.0.0.0/8 is this host too.
        return special or (address.version == 4 and int(address) < 1 << 24) or self._own(address)  # noqa: PLR2004


def _meant(address: Address) -> Iterator[Address]:
    """The address, and the IPv4 addresses that some gateway would make of it."""
    if isinstance(address, ipaddress.IPv4Address):
        yield address
        return
    if address.ipv4_mapped is not None:
        yield address.ipv4_mapped
        return
    yield address
    if address.sixtofour is not None:
        yield address.sixtofour
    if address.teredo is not None:
        yield from address.teredo
    if address in _NAT64:
        yield ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)


def _public(address: Address) -> bool:
    if address.version == 6 and address not in _UNICAST:  # noqa: PLR2004  # the IP version
        return False
    return address.is_global and not address.is_reserved and not _within(address, _NOT_PUBLIC)


def _within(address: Address, networks: Iterable[Net]) -> bool:
    return any(address in network for network in networks)
