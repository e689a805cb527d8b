"""Telling a loss: to the model, in the events, in the status."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from hibernaut.contracts import Note
from hibernaut.models import EventKind, RecoveryReport, ReplayedCommand
from workflows.context import Context
from workflows.inbox import EVENT_TEXT
from workflows.record import KEPT_COMMANDS


@dataclass(frozen=True, slots=True)
class Climbed:
    """How the sandbox came back."""

    how: Literal["restored", "restarted"] = "restored"
    rungs: Sequence[str] = ()
    replayed: Sequence[ReplayedCommand] = ()


def report_loss(
    context: Context,
    reason: str,
    uncertain: Sequence[str] = (),
    *,
    restored: int | None,
    requested: int | None = None,
    lost: Sequence[str] = (),
    climbed: Climbed | None = None,
) -> None:
    """Put a recovery report before the model's next step.

    Args:
        context: The agent.
        reason: What happened.
        uncertain: Heads of commands that may or may not have taken effect.
        restored: Number of the snapshot it goes on from; none: the image, or the same container.
        requested: The snapshot that should have been restored.
        lost: Heads of commands whose effects are gone.
        climbed: How the sandbox came back.
    """
    record = context.record
    climbed = climbed or Climbed()
    report = RecoveryReport(
        reason=reason,
        how=climbed.how,
        generation=record.generation,
        host_id=record.lease.host_id if record.lease else "",
        restored_snapshot=restored,
        requested_snapshot=requested,
        lost_commands=tuple(lost[-KEPT_COMMANDS:]),
        uncertain_commands=tuple(uncertain[-KEPT_COMMANDS:]),
        rungs=tuple(climbed.rungs),
        replayed=tuple(climbed.replayed[-KEPT_COMMANDS:]),
    )
    record.recoveries += 1
    record.last_recovery = report
    record.pending.append(Note(text=report.render(), report=report))
    if climbed.how == "restarted":
        where = "the same container, restarted"
    else:
        where = f"snapshot {restored}" if restored is not None else "the image"
    context.journal.add(EventKind.RECOVERY, f"recovered from {where}: {reason}", **report.model_dump(mode="json"))


def tell_too_large(context: Context, reason: str, *, again: bool) -> None:
    """Tell that the files are more than a snapshot may hold: while that is so, nothing is durable.

    Args:
        context: The agent.
        reason: How much there is, how much may be, and where most of it is.
        again: Whether the model knows, and may go on while it hears that this is still so.
    """
    record = context.record
    kept = f"snapshot {record.snapshot.number}" if record.snapshot else "the image"
    if again:
        text = f"[hibernaut] There is still no snapshot of the computer. {reason}."
    else:
        text = (
            f"[hibernaut] No snapshot of the computer can be taken. {reason}. Until one is, nothing that changed since "
            f"{kept} is durable: if the computer is lost, it goes back to that. Calls answered as not run were held "
            "back for this message. From now on calls run again, and after each a snapshot is tried: delete what is "
            "not needed before anything else. The turn ends when a snapshot holds its work."
        )
    record.too_large = reason
    record.pending.append(Note(text=text, urgent=not again))
    context.journal.add(EventKind.SNAPSHOT_REFUSED, f"no snapshot: {reason[:EVENT_TEXT]}", reason=reason)


def report_dropped(context: Context, reason: str) -> None:
    """Report that the sandbox is gone and nothing takes its place yet: what the newest snapshot lacks is lost."""
    record = context.record
    lost = [command.head for command in record.dirty]
    record.dirty.clear()
    report_loss(context, reason, restored=record.snapshot.number if record.snapshot else None, lost=lost)
