"""Reads key rings: `name: base64 of 32 bytes`, one entry a line or several with commas between them."""

import base64
import binascii
import os
import re
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from hibernaut.errors import InvalidSettings

KEY_BYTES = 32
MAX_FILE_BYTES = 65_536
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
HINT = "`python -m workers.keys new NAME` makes a key."


class NamedKey(NamedTuple):
    """An entry of a ring."""

    name: str
    """For people alone."""
    secret: bytes
    """32 bytes."""

    def __repr__(self) -> str:
        """Show no secret."""
        return f"NamedKey(name={self.name!r})"


def keys_of(env: Mapping[str, str], variable: str) -> list[NamedKey]:
    """The keys of a variable, or of the file that the variable with `_FILE` behind its name names; maybe none.

    Raises:
        InvalidSettings: both are set, the file cannot be trusted, or an entry is wrong, with a line for each.
    """
    file_variable = f"{variable}_FILE"
    text, path = env.get(variable), env.get(file_variable)
    if text and path:
        raise InvalidSettings(f"{variable} and {file_variable} are both set.", hint="Set one of them.")
    if path:
        return parse(read(Path(path), file_variable), f"{file_variable} ({path})")
    return parse(text, variable) if text else []


def read(path: Path, variable: str) -> str:
    """The text of a key file.

    Raises:
        InvalidSettings: it cannot be read, is no file, is too large, or others than its owner and group may use it.
    """
    where = f"{variable} names {path}, which"
    try:
        # Without waiting: what is named may be a pipe.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise InvalidSettings(f"{where} cannot be read: {error.strerror}.") from error
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise InvalidSettings(f"{where} is no file.")
        if status.st_mode & stat.S_IRWXO:
            shown = stat.filemode(status.st_mode)
            raise InvalidSettings(f"{where} everybody may use ({shown}).", hint=f"Run `chmod 600 {path}`.")
        data = os.read(descriptor, MAX_FILE_BYTES + 1)
    finally:
        os.close(descriptor)
    if len(data) > MAX_FILE_BYTES:
        raise InvalidSettings(f"{where} has more than {MAX_FILE_BYTES:,} bytes.")
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise InvalidSettings(f"{where} is not UTF-8 text.") from None


def parse(text: str, source: str) -> list[NamedKey]:
    """The keys of a text: the first one seals, all of them open. Empty lines and what follows a `#` do not count.

    Args:
        text: Entries `name: base64 of 32 bytes`.
        source: Where it comes from, for errors; these repeat nothing that may be a key.

    Raises:
        InvalidSettings: with a line for each wrong entry.
    """
    keys: list[NamedKey] = []
    problems: list[str] = []
    for where, entry in _entries(text):
        found = _key(entry)
        if isinstance(found, str):
            problems.append(f"{where}: {found}")
        elif any(key.name == found.name for key in keys):
            problems.append(f"{where}: another key has the name {found.name!r} already")
        elif same := [key.name for key in keys if key.secret == found.secret]:
            problems.append(f"{where}: {found.name!r} is the same key as {same[0]!r}")
        else:
            keys.append(found)
    if not keys and not problems:
        problems.append("there is no key in it")
    if problems:
        listed = "\n".join(f"    {problem}" for problem in problems)
        raise InvalidSettings(f"{source} cannot be used:\n{listed}\n ", hint=HINT)
    return keys


def line(name: str, secret: bytes) -> str:
    """An entry as it is written."""
    return f"{name}: {base64.b64encode(secret).decode()}"


def _entries(text: str) -> Iterator[tuple[str, str]]:
    for number, whole in enumerate(text.splitlines(), 1):
        entries = [entry.strip() for entry in whole.partition("#")[0].split(",")]
        for place, entry in enumerate(entries, 1):
            if entry:
                yield (f"line {number}" if len(entries) == 1 else f"line {number}, entry {place}"), entry


def _key(entry: str) -> NamedKey | str:
    """The key, or what is wrong."""
    name, colon, value = (part.strip() for part in entry.partition(":"))
    if not colon:
        return "must be `name: base64 of 32 bytes`"
    if NAME.fullmatch(name) is None:
        return "the name must be 1 to 64 of the characters A-Z a-z 0-9 . _ -"
    try:
        secret = base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        return "what follows the colon is not base64"
    if len(secret) != KEY_BYTES:
        return f"the key must have {KEY_BYTES} bytes, not {len(secret)}"
    if len(set(secret)) == 1:
        return "the key is one byte again and again, which anybody guesses"
    return NamedKey(name, secret)
