"""Amounts of a budget as people write and read them: `2M` tokens, `12.50` of money, `1h30m` of time."""

import re
from datetime import timedelta
from decimal import Decimal, InvalidOperation

from pydantic import TypeAdapter, ValidationError

from hibernaut.models.budget import MICROS, Kind

_SUFFIXES = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9}
_SECONDS = {"d": 86_400, "h": 3_600, "m": 60, "s": 1}
_COUNT = re.compile(r"(\d[\d_,]*(?:\.\d+)?)([kMG]?)", re.ASCII)
_SPAN = re.compile(r"(?:\d+(?:\.\d+)?[dhms])+", re.ASCII)
_ISO = TypeAdapter(timedelta)

EXAMPLES: dict[Kind, str] = {
    "tokens": "100000, 250k or 2M",
    "money": "12.50",
    "steps": "40",
    "wall_time": "90s, 1h30m or 2d",
    "compute_time": "90s, 1h30m or 2d",
}


def parse_amount(kind: Kind, text: str) -> int | Decimal | timedelta:
    """A limit as it was written.

    Raises:
        ValueError: It is none of this kind; the message has examples.
    """
    text = text.strip()
    try:
        match kind:
            case "tokens" | "steps":
                return _count(text)
            case "money":
                return Decimal(text.replace("_", ""))
            case _:
                return _span(text)
    except (ValueError, InvalidOperation, OverflowError, ValidationError):
        raise ValueError(f"{text!r} is no limit of {kind}; write it like {EXAMPLES[kind]}") from None


def show_amount(kind: Kind, amount: int, currency: str = "") -> str:
    """An amount in its unit (tokens, millionths, steps, milliseconds) for people."""
    match kind:
        case "tokens" | "steps":
            return f"{amount:,} {kind if amount != 1 else kind[:-1]}"
        case "money":
            return f"{_money(amount)} {currency}".rstrip()
        case _:
            return show_span(amount)


def write_amount(kind: Kind, amount: int) -> str:
    """The same as the command line takes it; time is rounded up to seconds."""
    match kind:
        case "tokens" | "steps":
            return str(amount)
        case "money":
            return _money(amount)
        case _:
            return show_span(-(-amount // 1000) * 1000)


def show_span(milliseconds: int) -> str:
    """A time, exact to the second from a minute on."""
    if milliseconds < 60 * 1000:
        return f"{Decimal(milliseconds) / 1000:f}s"
    seconds, text = milliseconds // 1000, ""
    for unit, length in _SECONDS.items():
        if seconds >= length:
            text += f"{seconds // length}{unit}"
            seconds %= length
    return text


def _count(text: str) -> int:
    found = _COUNT.fullmatch(text)
    if found is None:
        raise ValueError(text)
    number = Decimal(found[1].replace("_", "").replace(",", "")) * _SUFFIXES[found[2]]
    if number != int(number):
        raise ValueError(text)
    return int(number)


def _span(text: str) -> timedelta:
    if _SPAN.fullmatch(text):
        parts = re.findall(r"([\d.]+)([dhms])", text)
        return timedelta(seconds=float(sum(Decimal(number) * _SECONDS[unit] for number, unit in parts)))
    return _ISO.validate_python(float(text) if re.fullmatch(r"\d+(\.\d+)?", text, re.ASCII) else text)


def _money(micros: int) -> str:
    whole, rest = divmod(micros, MICROS)
    cents = f"{rest:06d}".rstrip("0").ljust(2, "0")
    return f"{whole}.{cents}"
