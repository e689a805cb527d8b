"""The owner's retention as a setting: `last=1000,hourly=168,daily=60,weekly=52`, or `all`."""

from typing import Final

from activities.ports.upkeep import Retention

KEEP_ALL: Final = "all"
DEFAULT: Final = Retention(last=1000, hourly=168, daily=60, weekly=52)
"""Days of single tool calls, a week of hours, two months of days, a year of weeks."""
MOST: Final = 1_000_000
EXAMPLE: Final = "last=1000,hourly=168,daily=60,weekly=52"


def parse_retention(value: object) -> object:
    """From text; None keeps everything.

    Raises:
        ValueError: It is no retention; the sentence says what may be written.
    """
    if not isinstance(value, str):
        return value
    if value.strip() == KEEP_ALL:
        return None
    rules: dict[str, int] = {}
    for part in value.split(","):
        rule, equals, count = (piece.strip() for piece in part.partition("="))
        if not equals or rule not in Retention.model_fields:
            known = ", ".join(f"{name}=N" for name in Retention.model_fields)
            raise ValueError(f"must be {KEEP_ALL!r} or rules such as {EXAMPLE} ({known}), and {part.strip()!r} is none")
        if rule in rules:
            raise ValueError(f"says {rule} twice")
        if not (count.isascii() and count.isdecimal()) or int(count) > MOST:
            raise ValueError(f"must have a number from 0 to {MOST} for {rule}, not {count!r}")
        rules[rule] = int(count)
    if not any(rules.values()):
        raise ValueError(f"must keep something by at least one rule, such as {EXAMPLE}; {KEEP_ALL!r} keeps everything")
    return Retention(**rules)
