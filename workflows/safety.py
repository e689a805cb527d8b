"""Which commands may run twice."""

import re
from collections.abc import Iterable

_NO_OPERATOR = r"[^;&|<>()$`\n]*"


def is_safe(command: str, patterns: Iterable[str]) -> bool:
    """Whether a command as a whole matches one of the spec's `retry_safe` patterns.

    `*` stands for any text without shell operators: `ls *` is no licence for `ls x; rm -rf y`.
    """
    return any(
        re.fullmatch(_NO_OPERATOR.join(re.escape(part) for part in pattern.strip().split("*")), command.strip())
        for pattern in patterns
    )
