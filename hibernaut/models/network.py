"""What of the network a sandbox may reach: the part of the spec, and the rules it is made of."""

import ipaddress
import re
from dataclasses import dataclass
from typing import Annotated, Final, Literal, Self

from pydantic import Field, field_validator, model_validator

from hibernaut.models.base import Model

MAX_RULES: Final = 200
MAX_HOST: Final = 253
MAX_PORT: Final = 65_535
DEFAULT_PORTS: Final = frozenset({80, 443})

_NAME = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)(\.(?!-)[a-z0-9_-]{1,63}(?<!-))*")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
_PORT = re.compile(r"[1-9][0-9]{0,4}")

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def as_address(host: str) -> Address | None:
    """The address that a host is written as, without brackets; None when it is a name."""
    try:
        # With a scope it would name an interface of the host.
        return None if "%" in host else ipaddress.ip_address(host)
    except ValueError:
        return None


def as_host(text: str) -> str | None:
    """A name or address in its one spelling: lower case, no last dot, no brackets; None when it is neither.

    A name whose last label is a number is none: resolvers read `127.1` and `0x7f000001` as addresses.
    """
    if not text.isascii():
        # Lower case makes a letter of some that are none.
        return None
    host = text.lower().removesuffix(".")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    address = as_address(bare)
    if address is not None:
        return str(address)
    if len(host) > MAX_HOST or _NAME.fullmatch(host) is None or _NUMBER.fullmatch(host.rpartition(".")[2]):
        return None
    return host


@dataclass(frozen=True, slots=True)
class HostRule:
    """Hosts that may be reached: one by its name or address, or all names below one."""

    host: str
    """In the spelling of `as_host`."""
    wildcard: bool
    """Whether the names below `host` are meant, of any depth, and not `host` itself."""
    ports: frozenset[int]

    @classmethod
    def parse(cls, text: str) -> Self:
        """From `host`, `host:port`, `*.host`, `*.host:port`, an address, `address:port` or `[address]:port`.

        Raises:
            ValueError: It is none of these; says why.
        """
        host, port = split_rule(text)
        wildcard = host.startswith("*.")
        known = as_host(host.removeprefix("*."))
        if known is None or "/" in text:
            msg = (
                f"{text[:80]!r} is no rule for hosts: write example.com, *.example.com, example.com:8443 or an address "
                "such as 10.0.0.7 or [2001:db8::7]:8443; no https://, no path, other letters than a-z as xn--..."
            )
            raise ValueError(msg)
        if wildcard and ("." not in known or as_address(known) is not None):
            msg = f"{text[:80]!r} would stand for too much: below *. there must be a name such as example.com"
            raise ValueError(msg)
        if port is None:
            return cls(known, wildcard, DEFAULT_PORTS)
        if _PORT.fullmatch(port) is None or int(port) > MAX_PORT:
            msg = f"{text[:80]!r} has no port from 1 to {MAX_PORT} after the colon"
            raise ValueError(msg)
        return cls(known, wildcard, frozenset({int(port)}))

    def names(self, host: str) -> bool:
        """Whether it is about this host, given as `as_host` spells it."""
        return host.endswith(f".{self.host}") if self.wildcard else host == self.host


def split_rule(text: str) -> tuple[str, str | None]:
    """Host and port of a rule; the port is None when there is none."""
    if as_address(text) is not None:
        return text, None
    if text.startswith("["):
        host, bracket, rest = text.partition("]")
        return (host + bracket, rest[1:]) if rest.startswith(":") else (text, None)
    host, colon, port = text.partition(":")
    return (host, port) if colon else (text, None)


class Network(Model):
    """What of the network a sandbox may reach."""

    mode: Literal["none", "allowlist", "open"] = "none"
    """`none`: a loopback device and nothing else. `allowlist`: the same, and a proxy to the hosts of `allow`. `open`:
    Docker's default bridge."""
    allow: tuple[Annotated[str, Field(min_length=1, max_length=300)], ...] = Field(default=(), max_length=MAX_RULES)
    """For `allowlist`, up to 200 rules: `example.com`, `*.example.com` (all names below it), either with a port as in
    `example.com:8443` (443 and 80 without one), or an address."""
    allow_private: tuple[Annotated[str, Field(min_length=1, max_length=50)], ...] = Field(default=(), max_length=50)
    """For `allowlist`, networks such as `10.1.0.0/16` in which the allowed names may lie; by default they lead to
    public addresses only. The worker has the last word on its own addresses."""
    max_bytes: Annotated[int, Field(ge=1_024, le=1_099_511_627_776)] | None = None
    """For `allowlist`, bytes in both directions after which nothing passes any more, counted for each container."""

    @field_validator("allow")
    @classmethod
    def _rules(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for text in value:
            HostRule.parse(text)
        return value

    @field_validator("allow_private")
    @classmethod
    def _networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for text in value:
            try:
                ipaddress.ip_network(text)
            except ValueError as error:
                msg = f"{text!r} is no network such as 10.1.0.0/16: {error}"
                raise ValueError(msg) from None
        return value

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.mode != "allowlist" and (self.allow or self.allow_private or self.max_bytes is not None):
            msg = f"allow, allow_private and max_bytes are for the mode allowlist, and the mode is {self.mode}"
            raise ValueError(msg)
        return self
