"""Secrets of a sandbox: which there are, and toward which hosts they are used. Their values are the worker's alone."""

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Final, Self

from pydantic import Field, field_validator

from hibernaut.models.base import Model
from hibernaut.models.network import DEFAULT_PORTS, HostRule, Network

MAX_SECRETS: Final = 20
MAX_HOSTS: Final = 20
"""Of one secret."""
MAX_HOSTS_IN_ALL: Final = 100
TLS_PORT: Final = 443
PLAIN: Final = "http://"
SHAPE: Final = "hbn-secret-"
"""What every placeholder begins with."""

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
_SET_ELSEWHERE = frozenset(
    {
        *("HOME", "PATH", "HOSTNAME", "PWD", "SHLVL", "HIBERNAUT_SECRETS"),
        *("SSL_CERT_FILE", "GIT_SSL_CAINFO", "PIP_CERT", "NODE_EXTRA_CA_CERTS"),
    }
)


@dataclass(frozen=True, slots=True)
class SecretHost:
    """Hosts that a secret is for."""

    rule: HostRule
    tls: bool
    """Whether the connection has to be TLS; else it is plain HTTP."""

    @classmethod
    def parse(cls, text: str) -> Self:
        """From a rule as in a network's `allow`: TLS, port 443 unless it has one; after `http://`, plain HTTP.

        Raises:
            ValueError: It is none; says why.
        """
        bare = text.removeprefix(PLAIN)
        tls = bare == text
        rule = HostRule.parse(bare)
        ports = rule.ports if rule.ports != DEFAULT_PORTS else frozenset({TLS_PORT if tls else 80})
        return cls(HostRule(rule.host, rule.wildcard, ports), tls)

    def is_of(self, host: str, port: int, *, tls: bool) -> bool:
        """Whether it is about this connection."""
        return self.tls == tls and port in self.rule.ports and self.rule.names(host)

    def within(self, rules: Iterable[HostRule]) -> bool:
        """Whether these rules let all of it through."""
        known = tuple(rules)
        return all(any(port in rule.ports and _covers(rule, self.rule) for rule in known) for port in self.rule.ports)


def _covers(wide: HostRule, narrow: HostRule) -> bool:
    if narrow.wildcard:
        return wide.wildcard and (wide.host == narrow.host or wide.names(narrow.host))
    return wide.names(narrow.host)


class SecretSpec(Model):
    """A secret: toward which hosts its value takes the place of what the sandbox has."""

    hosts: tuple[Annotated[str, Field(min_length=1, max_length=300)], ...] = Field(min_length=1, max_length=MAX_HOSTS)
    """Rules as in `network.allow`, which has to allow them too: `api.example.com` (port 443 without one),
    `*.example.org:8443`, an address; TLS, or plain HTTP when written `http://api.internal:8080`."""

    @field_validator("hosts")
    @classmethod
    def _rules(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for text in value:
            SecretHost.parse(text)
        return value

    def is_for(self, host: str, port: int, *, tls: bool) -> bool:
        """Whether it may be used toward this host, given as `as_host` spells it."""
        return any(SecretHost.parse(text).is_of(host, port, tls=tls) for text in self.hosts)


def fault_of_names(secrets: Mapping[str, SecretSpec], env: Mapping[str, str]) -> str | None:
    """Why secrets of these names cannot be; None when they can."""
    if len(secrets) > MAX_SECRETS:
        return f"has {len(secrets)} secrets and the limit is {MAX_SECRETS}"
    if sum(len(one.hosts) for one in secrets.values()) > MAX_HOSTS_IN_ALL:
        return f"has more than {MAX_HOSTS_IN_ALL} hosts in all"
    for name in secrets:
        if _NAME.fullmatch(name) is None:
            return (
                f"{name[:80]!r} is not a variable name: letters, digits and underscores, at most 64, not first a digit"
            )
        if name in _SET_ELSEWHERE or name.upper().endswith(("_PROXY", "_CA_BUNDLE")):
            return f"{name} is a variable that the sandbox itself needs; give the secret another name"
        if name in env:
            return f"{name} is in env too; a variable is one or the other"
    return None


def fault_of_network(secrets: Mapping[str, SecretSpec], network: Network) -> str | None:
    """Why a network of this mode has no secrets; None when it can have them."""
    if not secrets or network.mode == "allowlist":
        return None
    return (
        f"needs network.mode allowlist, and it is {network.mode}: values are put in by the proxy of an allowlist, so "
        "that the sandbox never has them"
    )


def fault_of_hosts(secrets: Mapping[str, SecretSpec], network: Network) -> str | None:
    """Which host of a secret the network's rules do not allow; None when they allow all."""
    rules = [HostRule.parse(text) for text in network.allow]
    for name, secret in secrets.items():
        for text in secret.hosts:
            host = SecretHost.parse(text)
            if not host.within(rules):
                ports = ", ".join(map(str, host.rule.ports))
                return f"{name} is for {text} (port {ports}), which network.allow does not allow; add it there"
    return None


def placeholder(agent_uid: str, name: str) -> str:
    """What the sandbox has instead of a value: the same in every container of one agent, and nobody else's."""
    digest = hashlib.sha256(f"hibernaut secret\0{agent_uid}\0{name}".encode()).hexdigest()
    return f"{SHAPE}{name}-{digest[:32]}"
