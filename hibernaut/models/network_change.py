"""Rules of an allowlist that are changed while the agent lives, and what became of the connections that it made."""

from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from hibernaut.models.base import Model, Open
from hibernaut.models.network import MAX_RULES, HostRule, split_rule

Rules = Annotated[tuple[Annotated[str, Field(min_length=1, max_length=300)], ...], Field(max_length=MAX_RULES)]


class NetworkChange(Model):
    """The argument of the update `set_network`: rules to add, and rules to take away. All others stay."""

    allow: Rules = ()
    """As in the spec."""
    deny: Rules = ()
    """Hosts as they were allowed; without a port all rules of that host are meant."""
    by: str = Field(default="", max_length=200)
    """Who changes them, for the event."""

    @field_validator("allow", "deny")
    @classmethod
    def _rules(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for text in value:
            HostRule.parse(text)
        return value

    @model_validator(mode="after")
    def _either(self) -> Self:
        both = sorted(set(map(HostRule.parse, self.allow)) & set(map(HostRule.parse, self.deny)), key=_spelled)
        if both:
            msg = f"{_spelled(both[0])} cannot be allowed and denied at once; do one of them"
            raise ValueError(msg)
        return self

    def over(self, rules: tuple[str, ...]) -> tuple[str, ...]:
        """The rules that hold after this change of others; the same when it changes nothing.

        Raises:
            ValueError: They would be too many, or a host that is denied would be reached by another rule.
        """
        kept = [*rules]
        for text in self.deny:
            kept = [left for rule in kept for left in _less(rule, text)]
        known = {HostRule.parse(rule): rule for rule in kept}
        for text in self.allow:
            rule = HostRule.parse(text)
            if not any(_covers(other, rule) for other in known):
                known[rule] = text
        for text in self.deny:
            _check_denied(text, known)
        if len(known) > MAX_RULES:
            msg = f"it would have {len(known)} rules, and {MAX_RULES} is the most; deny hosts that are not needed"
            raise ValueError(msg)
        return tuple(known.values())


class NetworkDecision(Open):
    """What was decided about connections of a sandbox to one host and port."""

    host: str
    """As it was asked for; empty when nothing that names a host could be read."""
    port: int
    allowed: bool
    reason: str = ""
    """Why it was refused."""
    count: int = 1
    """Connections."""

    @property
    def line(self) -> str:
        """In a line."""
        where = f"{self.host or '?'}:{self.port}" if self.port else self.host or "what names no host"
        often = f" ({self.count} times)" if self.count > 1 else ""
        return f"{'allowed' if self.allowed else 'refused'} {where}{often}{f': {self.reason}' if self.reason else ''}"


class NetworkReport(Open):
    """The decisions since an earlier report."""

    decisions: tuple[NetworkDecision, ...] = ()
    more: int = 0
    """Connections beyond those, of which nothing else is told."""
    mark: str = ""
    """Tells the next report where this one ended."""


class NetworkStatus(Open):
    """The answer to the query `network`, and to the update `set_network`."""

    mode: Literal["none", "allowlist", "open"] = "none"
    allow: tuple[str, ...] = ()
    """The rules that hold."""
    of_spec: tuple[str, ...] = ()
    """The rules that the agent was started with."""
    in_force: bool = True
    """Whether the container has them; without a container the next one will."""
    failure: str = ""
    """Why the container has them not yet, when that was tried."""

    @property
    def added(self) -> tuple[str, ...]:
        """Rules that the spec has not."""
        return without(self.allow, self.of_spec)

    @property
    def removed(self) -> tuple[str, ...]:
        """Rules of the spec that hold no more."""
        return without(self.of_spec, self.allow)


def without(rules: tuple[str, ...], others: tuple[str, ...]) -> tuple[str, ...]:
    """Those that the others have not."""
    known = set(others)
    return tuple(rule for rule in rules if rule not in known)


def _covers(rule: HostRule, other: HostRule) -> bool:
    return (rule.host, rule.wildcard) == (other.host, other.wildcard) and rule.ports >= other.ports


def _less(text: str, denied: str) -> list[str]:
    """A rule without what is denied: whole, in parts, or nothing of it."""
    rule, away = HostRule.parse(text), HostRule.parse(denied)
    if (rule.host, rule.wildcard) != (away.host, away.wildcard):
        return [text]
    left = rule.ports - away.ports if split_rule(denied)[1] is not None else frozenset[int]()
    if left == rule.ports:
        return [text]
    return [_spelled(HostRule(rule.host, rule.wildcard, frozenset({port}))) for port in sorted(left)]


def _check_denied(text: str, rules: dict[HostRule, str]) -> None:
    away = HostRule.parse(text)
    for rule, told in rules.items():
        about = rule.names(away.host) and (rule.wildcard or not away.wildcard)
        if about and (split_rule(text)[1] is None or rule.ports & away.ports):
            msg = f"{text} would still be reached by the rule {told}; deny {told}, and allow what is to stay"
            raise ValueError(msg)


def _spelled(rule: HostRule) -> str:
    host = f"[{rule.host}]" if ":" in rule.host else rule.host
    ports = f":{min(rule.ports)}" if len(rule.ports) == 1 else ""
    return f"{'*.' if rule.wildcard else ''}{host}{ports}"
