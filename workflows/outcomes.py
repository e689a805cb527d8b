"""Tool calls as lines for people, and outcomes of those whose end nobody saw."""

from hibernaut.models import CommandOutcome, OutcomeKind, ToolCall


def shown_line(call: ToolCall) -> str:
    """The first line of each command."""
    firsts = [command.strip().split("\n", 1) for command in call.commands]
    return "; ".join(lines[0] + (" …" if len(lines) > 1 else "") for lines in firsts)


def all_as(call: ToolCall, prefix: str, kind: OutcomeKind) -> tuple[CommandOutcome, ...]:
    """Every command of a call with the same outcome."""
    return tuple(
        CommandOutcome(exec_id=f"{prefix}-i{index}", command=command, kind=kind)
        for index, command in enumerate(call.commands)
    )


def not_run(call: ToolCall, prefix: str) -> tuple[CommandOutcome, ...]:
    """Every command of a call as not run."""
    return all_as(call, prefix, OutcomeKind.NOT_RUN)


def unknown(call: ToolCall, prefix: str) -> tuple[CommandOutcome, ...]:
    """Every command of a call as one that may or may not have run."""
    return all_as(call, prefix, OutcomeKind.UNKNOWN)
