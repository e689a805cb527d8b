"""Network rules, drawn for a terminal."""

from rich.text import Text

from hibernaut.cli.columns import aligned
from hibernaut.cli.console import clean
from hibernaut.models.network_change import NetworkStatus

SHOWN_RULES = 8
WHAT = {
    "none": "nothing: its network has the mode none",
    "open": "everything: its network has the mode open",
    "allowlist": "nothing: its allowlist is empty",
}


def rules_table(status: NetworkStatus) -> Text:
    """A line for each rule: `+` what the spec has not, `-` what holds no more."""
    added, removed = set(status.added), set(status.removed)
    rows = [
        [Text("+" if rule in added else " "), Text(clean(rule), style="green" if rule in added else "default")]
        for rule in status.allow
    ]
    rows += [[Text("-"), Text(clean(rule), style="red")] for rule in status.of_spec if rule in removed]
    return aligned(rows) if rows else Text(WHAT[status.mode])


def notes(status: NetworkStatus) -> list[str]:
    """What is to be said beside the rules."""
    lines: list[str] = []
    if status.added or status.removed:
        lines.append("The rules were changed since the agent was started.")
    if not status.in_force:
        why = f": {status.failure}" if status.failure else " (`hibernaut status` says what is met on the way)"
        lines.append(clean(f"The container has not taken them yet{why}. It does before its next command runs."))
    return lines


def network_changes(network: NetworkStatus) -> str:
    """Rules that differ from the spec."""
    changed = [*(f"+{rule}" for rule in network.added), *(f"-{rule}" for rule in network.removed)]
    more = f" and {len(changed) - SHOWN_RULES} more" if len(changed) > SHOWN_RULES else ""
    late = f" (not in force yet{f': {network.failure}' if network.failure else ''})" if not network.in_force else ""
    return clean(" ".join(changed[:SHOWN_RULES]) + more + late)
