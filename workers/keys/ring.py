"""The keys that seal snapshots, as the environment names them."""

from collections.abc import Mapping

from activities.snapshots.sealing import PLAIN, Key, KeyRing
from hibernaut._keyring import HINT, NAME, keys_of, line

__all__ = ["FILE_VARIABLE", "HINT", "NAME", "VARIABLE", "keys_from", "line"]

VARIABLE = "HIBERNAUT_SNAPSHOT_KEYS"
FILE_VARIABLE = f"{VARIABLE}_FILE"


def keys_from(env: Mapping[str, str]) -> KeyRing:
    """The keys of HIBERNAUT_SNAPSHOT_KEYS_FILE or HIBERNAUT_SNAPSHOT_KEYS; a ring without keys when neither is set.

    Raises:
        InvalidSettings: both are set, the file cannot be trusted, or an entry is wrong, with a line for each.
    """
    found = keys_of(env, VARIABLE)
    return KeyRing(Key(*key) for key in found) if found else PLAIN
