"""Tool calls as lines for people, and outcomes of those that did not run."""

from hibernaut.models import CommandOutcome, OutcomeKind, ToolCall


def shown_line(call: ToolCall) -> str:
    """The first line of each command."""
    firsts = [command.strip().split("\n", 1) for command in call.commands]
    return "; ".join(lines[0] + (" …" if len(lines) > 1 else "") for lines in firsts)


def not_run(call: ToolCall, prefix: str) -> tuple[CommandOutcome, ...]:
    """Every command of a call as not run."""
    return tuple(
        CommandOutcome(exec_id=f"{prefix}-i{index}", command=command, kind=OutcomeKind.NOT_RUN)
        for index, command in enumerate(call.commands)
    )
