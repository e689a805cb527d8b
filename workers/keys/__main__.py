"""`python -m workers.keys new NAME | list`: makes a key for snapshots, and tells which ones the environment names."""

import argparse
import os
import secrets
import sys

from activities.snapshots.sealing import KEY_BYTES
from hibernaut.errors import InvalidRequest, InvalidSettings
from workers.keys.ring import HINT, NAME, keys_from, line


def new(name: str) -> str:
    """An entry of a key ring with a key that never was.

    Raises:
        InvalidRequest: the name cannot be used.
    """
    if NAME.fullmatch(name) is None:
        raise InvalidRequest(f"{name!r} is no name of a key.", hint="Use 1 to 64 of the characters A-Z a-z 0-9 . _ -.")
    return line(name, secrets.token_bytes(KEY_BYTES))


def listed() -> str:
    """A line for each key of the environment: its id, what it does, its name.

    Raises:
        InvalidSettings: there are none, or they cannot be used.
    """
    ring = keys_from(os.environ)
    if not ring.names:
        raise InvalidSettings("The environment names no keys: snapshots are not sealed.", hint=HINT)
    does = {key_id: "opens" if place else "seals" for place, key_id in enumerate(ring.names)}
    return "\n".join(f"{key_id}  {does[key_id]}  {name}" for key_id, name in ring.names.items())


def main() -> int:
    """Print; 1 with the reason when that cannot be."""
    parser = argparse.ArgumentParser(prog="python -m workers.keys", description="The keys that seal snapshots.")
    commands = parser.add_subparsers(dest="command", required=True)
    making = commands.add_parser("new", help="print an entry with a new key for the key file")
    making.add_argument("name", help="what to call it, such as the date")
    commands.add_parser("list", help="print ids and names of the keys that the environment names, no secrets")
    arguments = parser.parse_args()
    try:
        print(new(arguments.name) if arguments.command == "new" else listed())  # noqa: T201  # what it is for
    except InvalidRequest as error:
        print(error, file=sys.stderr)  # noqa: T201  # said to whoever asked
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
