"""Which commands may run twice."""

import re
from collections.abc import Iterable

_NO_OPERATOR = r"[^;&|<>()$`\n]*"


def is_safe(command: str, patterns: Iterable[str]) -> bool:
    """Whether a command as a whole matches one of the spec's `retry_safe` patterns.

    `*` stands for any text without shell operators: `ls *` is no licence for `ls x; rm -rf y`.
    """
    return any(re.fullmatch(_expression(pattern.strip()), command.strip()) for pattern in patterns)


def _expression(pattern: str) -> str:
    """The pattern as a regular expression.

    Each `*` but the last ends at the first place where what follows it stands, and never moves on from there: the
    longest command takes no longer than its length says, where going back would let a hostile one stop the workflow.
    """
    first, *others = (re.escape(part) for part in pattern.split("*"))
    if not others:
        return first
    *inner, last = others
    return first + "".join(f"(?>{_NO_OPERATOR}?{part})" for part in inner) + _NO_OPERATOR + last
