"""Whose a store is, and what is said of that which is somebody else's.

An owner is a Temporal namespace, a prefix of a store and the credentials for both. Workers and gateways are told whose
they are by their settings, never by a spec.
"""

from activities.errors import SnapshotError, StoreError


class SnapshotForeign(SnapshotError):
    """It is another owner's: no agent of this one may have it."""


class StoreForeign(StoreError):
    """The prefix of the store is another owner's, or its owner cannot be told."""

    retryable = False


def foreign(ref: str, found: str, owner: str) -> str:
    """What is said of another owner's snapshot."""
    return (
        f"The snapshot {ref} belongs to the owner {found!r}, and this is {owner!r} (HIBERNAUT_OWNER): it is not "
        "restored, read or built on. It was copied here from another owner's prefix: remove it, or set HIBERNAUT_OWNER "
        "to what it was when the snapshot was taken."
    )
