"""Telling a loss: to the model, in the events, in the status."""

from hibernaut.contracts import Note
from hibernaut.models import EventKind, RecoveryReport
from workflows.context import Context
from workflows.record import KEPT_COMMANDS


def report_loss(
    context: Context,
    reason: str,
    uncertain: tuple[str, ...] = (),
    *,
    restored: int | None,
    requested: int | None = None,
) -> None:
    """Put a recovery report before the model's next step; the commands since the last snapshot are what was lost."""
    record = context.record
    report = RecoveryReport(
        reason=reason,
        generation=record.generation,
        restored_snapshot=restored,
        requested_snapshot=requested,
        lost_commands=tuple(record.dirty[-KEPT_COMMANDS:]),
        uncertain_commands=uncertain,
    )
    record.dirty.clear()
    record.recoveries += 1
    record.last_recovery = report
    record.pending.append(Note(text=report.render(), report=report))
    where = f"snapshot {restored}" if restored is not None else "the image"
    context.journal.add(EventKind.RECOVERY, f"recovered from {where}: {reason}", **report.model_dump(mode="json"))
