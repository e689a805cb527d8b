"""What is told of a sandbox that was destroyed: what was looked for afterwards, and what is left."""

from hibernaut.contracts import DestroyResult
from hibernaut.models import EventKind, LeaseStatus
from workflows.journal import Journal


def note_destruction(journal: Journal, lease: LeaseStatus, result: DestroyResult) -> None:
    """Add the event; hosts of older releases look for nothing, and nothing is told of them."""
    what = f"sandbox {lease.sandbox_id[:12]} (generation {lease.generation}) on {lease.host_id} destroyed"
    left = "; left: " + ", ".join(result.remnants) if result.remnants else "; nothing is left"
    journal.add(
        EventKind.DESTROYED,
        what + left,
        generation=lease.generation,
        host_id=lease.host_id,
        sandbox_id=lease.sandbox_id,
        removed=len(result.removed),
        checked=[looked.model_dump(mode="json") for looked in result.checked],
        remnants=list(result.remnants),
    )
