"""Decides which snapshots a pruning keeps; touches nothing."""

from __future__ import annotations

from datetime import UTC, timedelta
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping
    from datetime import datetime

    from activities.ports.upkeep import KeepRule, Retention

RECENT = timedelta(hours=1)


class Candidate(NamedTuple):
    """A snapshot, as far as it matters here."""

    number: int
    created: datetime
    base: int | None
    """The snapshot whose manifest it needs; None: it is full, or nobody can tell."""
    parent: int | None = None
    """The snapshot of the same agent before it."""


class Plan(NamedTuple):
    """What becomes of the snapshots of an agent."""

    rules: Mapping[int, list[KeepRule]]
    """Those that are kept, and why."""
    bases: Collection[int]
    """Those that are kept because others build on them."""
    removed: list[int]


def plan(
    found: Mapping[int, Candidate],
    keep: Retention,
    *,
    newest: int,
    in_use: Collection[int],
    named: Collection[int],
    now: datetime,
) -> Plan:
    """Decide.

    Args:
        found: All snapshots of an agent, by number.
        keep: What its owner wants.
        newest: The newest that counts; higher numbers are on their way.
        in_use: Those that somebody goes on from.
        named: Those that have a name.
        now: The time.
    """
    counted = sorted((number for number in found if number <= newest), reverse=True)
    claims: list[tuple[KeepRule, Iterable[int]]] = [
        ("newest", (number for number in found if number >= newest)),
        ("previous", _previous(found, counted, newest)),
        ("in_use", in_use),
        ("recent", (number for number, candidate in found.items() if now - candidate.created < RECENT)),
        ("last", counted[: keep.last]),
        ("hourly", _newest_of_each(counted, found, keep.hourly, _hour)),
        ("daily", _newest_of_each(counted, found, keep.daily, _day)),
        ("weekly", _newest_of_each(counted, found, keep.weekly, _week)),
        ("named", named),
    ]
    rules: dict[int, list[KeepRule]] = {}
    for rule, numbers in claims:
        for number in numbers:
            if number in found:
                rules.setdefault(number, []).append(rule)
    bases = {base for number in rules for base in _below(number, found)} - rules.keys()
    removed = sorted(number for number in found if number not in rules and number not in bases)
    return Plan(rules, bases, removed)


def _previous(found: Mapping[int, Candidate], counted: list[int], newest: int) -> set[int]:
    """Return the parent of the newest, and the one that is restored when the newest cannot even be read.

    Whoever took the newest went on from its parent, and may not have been told yet that it was taken.
    """
    before = set([number for number in counted if number < newest][:1])
    parent = found[newest].parent if newest in found else None
    return before if parent is None else before | {parent}


def needed_by(numbers: Collection[int], found: Mapping[int, Candidate]) -> set[int]:
    """Return these snapshots and all that build on them."""
    gone = set(numbers)
    for number in sorted(found):
        if found[number].base in gone:
            gone.add(number)
    return gone


def _newest_of_each(
    counted: list[int], found: Mapping[int, Candidate], count: int, period: Callable[[datetime], object]
) -> list[int]:
    taken: dict[object, int] = {}
    for number in counted:
        if len(taken) >= count:
            break
        taken.setdefault(period(found[number].created.astimezone(UTC)), number)
    return list(taken.values())


def _below(number: int, found: Mapping[int, Candidate]) -> list[int]:
    below: list[int] = []
    base = found[number].base
    # Numbers fall along a chain: one that does not is damaged.
    while base is not None and base < number and base in found:
        below.append(base)
        number, base = base, found[base].base
    return below


def _hour(moment: datetime) -> object:
    return (moment.date(), moment.hour)


def _day(moment: datetime) -> object:
    return moment.date()


def _week(moment: datetime) -> object:
    return moment.isocalendar()[:2]
