"""Where an agent's snapshots lie in the object store."""

from __future__ import annotations

import re

from activities.errors import InvalidSnapshotName, SnapshotNotFound

AGENTS = "agents/"
"""The prefix of everything that agents have."""
CONDEMNED = "collection/condemned.json"
"""The packs that the collection is about to delete."""
INDEXES = "chunks/"
"""The prefix of the tables of chunks that agents offer each other."""
_UID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_MANIFEST = re.compile(r"agents/([A-Za-z0-9][A-Za-z0-9._-]{0,127})/snapshots/manifests/(\d{8,12})")
_PACK = re.compile(r"agents/[A-Za-z0-9][A-Za-z0-9._-]{0,127}/snapshots/packs/[0-9a-f]{64}")


def snapshots_prefix(agent_uid: str) -> str:
    """Return the prefix of everything of an agent's snapshots."""
    if not _UID.fullmatch(agent_uid):
        msg = f"{agent_uid!r} is no agent uid: use letters, digits, '.', '_' and '-'."
        raise SnapshotNotFound(msg)
    return f"agents/{agent_uid}/snapshots/"


def is_uid(text: str) -> bool:
    """Tell whether a text may be the uid of an agent."""
    return _UID.fullmatch(text) is not None


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


def restore_key(agent_uid: str, container_id: str) -> str:
    """Return the key of the note on which snapshot is being restored into a container."""
    return f"{container_prefix(agent_uid, container_id)}restore"


def suspect_key(ref: str) -> str:
    """Return the key of the note that a restore of this snapshot met damage when it had begun to write."""
    uid, number = parse_ref(ref)
    return f"{snapshots_prefix(uid)}suspects/{number:08d}"


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


def names_prefix(agent_uid: str) -> str:
    """Return the prefix of the names given to an agent's snapshots: each object holds the reference it stands for."""
    return f"{snapshots_prefix(agent_uid)}names/"


def name_key(agent_uid: str, name: str) -> str:
    """Return the key of one name given to a snapshot.

    Raises:
        InvalidSnapshotName: The name cannot be used.
    """
    if not _NAME.fullmatch(name):
        msg = (
            f"{name[:100]!r} cannot name a snapshot: use 1 to 64 letters, digits, '.', '_' and '-', beginning with a "
            "letter or a digit."
        )
        raise InvalidSnapshotName(msg)
    return f"{names_prefix(agent_uid)}{name}"


def containers_prefix(agent_uid: str) -> str:
    """Return the prefix of the notes on all containers of an agent."""
    return f"{snapshots_prefix(agent_uid)}containers/"


def shared_key(agent_uid: str) -> str:
    """Return the key of the marker that manifests of other agents may name this agent's packs."""
    return f"{snapshots_prefix(agent_uid)}shared"


def owner_of(pack: str) -> str:
    """Return the uid of the agent under which a pack lies."""
    return pack.split("/", 2)[1]


def indexes_prefix(agent_uid: str) -> str:
    """Return the prefix of the tables of chunks that an agent offers."""
    snapshots_prefix(agent_uid)
    return f"{INDEXES}{agent_uid}/"


def index_key(agent_uid: str, number: int) -> str:
    """Return the key of the table of the chunks that one snapshot stored."""
    return f"{indexes_prefix(agent_uid)}{number:08d}"
