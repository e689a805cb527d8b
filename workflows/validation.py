"""Pydantic's errors as sentences."""

from pydantic import ValidationError


def explain(error: ValidationError) -> str:
    """Name every wrong field, what was given and what is allowed."""
    lines: list[str] = []
    for problem in error.errors():
        where = ".".join(str(part) for part in problem["loc"]) or "the spec"
        given = problem.get("input")
        shown = "" if isinstance(given, dict | list) or problem["type"] == "missing" else f" (given: {given!r:.80})"
        lines.append(f"{where}: {problem['msg']}{shown}")
    return "invalid spec: " + "; ".join(lines)
