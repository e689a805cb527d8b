"""Where an agent's snapshots lie in the object store."""

from __future__ import annotations

import re

from activities.errors import SnapshotNotFound

_UID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_MANIFEST = re.compile(r"agents/([A-Za-z0-9][A-Za-z0-9._-]{0,127})/snapshots/manifests/(\d{8,12})")
_PACK = re.compile(r"agents/[A-Za-z0-9][A-Za-z0-9._-]{0,127}/snapshots/packs/[0-9a-f]{64}")


def snapshots_prefix(agent_uid: str) -> str:
    """Return the prefix of everything of an agent's snapshots."""
    if not _UID.fullmatch(agent_uid):
        msg = f"{agent_uid!r} is no agent uid: use letters, digits, '.', '_' and '-'."
        raise SnapshotNotFound(msg)
    return f"agents/{agent_uid}/snapshots/"


def manifests_prefix(agent_uid: str) -> str:
    """Return the prefix of an agent's manifests."""
    return f"{snapshots_prefix(agent_uid)}manifests/"


def manifest_key(agent_uid: str, number: int) -> str:
    """Return the key of a manifest: the snapshot's reference. Keys sort as numbers do."""
    if number < 0:
        msg = f"A snapshot cannot bear the number {number}."
        raise SnapshotNotFound(msg)
    return f"{manifests_prefix(agent_uid)}{number:08d}"


def packs_prefix(agent_uid: str) -> str:
    """Return the prefix of an agent's packs."""
    return f"{snapshots_prefix(agent_uid)}packs/"


def container_prefix(agent_uid: str, container_id: str) -> str:
    """Return the prefix of the notes on one container: they live as long as it does."""
    return f"{snapshots_prefix(agent_uid)}containers/{container_id[:64]}/"


def parse_ref(ref: str) -> tuple[str, int]:
    """Return the agent uid and the number in a snapshot's reference."""
    found = _MANIFEST.fullmatch(ref)
    if not found:
        msg = f"{ref[:200]!r} is not the reference of a snapshot."
        raise SnapshotNotFound(msg)
    return found[1], int(found[2])


def is_pack_key(key: str) -> bool:
    """Tell whether a key may be that of a pack, of this agent or, after a fork, of another."""
    return _PACK.fullmatch(key) is not None
