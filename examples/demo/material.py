"""What the agent is given: a public data set, and the wheel of a small package, both from locked, hashed packages."""

import base64
import csv
import hashlib
import io
import zipfile
from dataclasses import dataclass
from importlib.metadata import Distribution, PackagePath, distribution
from pathlib import Path

from examples.demo.errors import DemoError

DATA_PACKAGE = "airportsdata"
WHEEL_PACKAGE = "tabulate"

_INSTALLERS_OWN = frozenset({"INSTALLER", "REQUESTED", "RECORD", "direct_url.json", "uv_cache.json"})
"""Files that installing adds to a distribution's metadata."""
_EPOCH = (1980, 1, 1, 0, 0, 0)
"""The earliest time a zip archive knows: the same input makes the same wheel."""


@dataclass(frozen=True, slots=True)
class Material:
    """A file for the agent, and where it comes from."""

    name: str
    content: bytes
    package: str
    version: str
    licence: str


def data_set() -> Material:
    """The CSV of all airports, as its package ships it.

    Raises:
        DemoError: the package is not installed, or its file is not what was installed.
    """
    found = _distribution(DATA_PACKAGE)
    (path,) = (path for path in found.files or () if path.name == "airports.csv")
    return Material("airports.csv", _verified(path), DATA_PACKAGE, found.version, _licence(found))


def wheel() -> Material:
    """The wheel of the small package, put together again from the files that were installed from the locked one.

    Raises:
        DemoError: the package is not installed, or a file is not what was installed.
    """
    found = _distribution(WHEEL_PACKAGE)
    files = {
        path.as_posix(): _verified(path)
        for path in sorted(found.files or ())
        if ".." not in path.parts and path.suffix != ".pyc" and path.name not in _INSTALLERS_OWN
    }
    record = f"{WHEEL_PACKAGE}-{found.version}.dist-info/RECORD"
    lines = io.StringIO()
    rows = [(name, f"sha256={_digest(content)}", len(content)) for name, content in files.items()]
    csv.writer(lines, lineterminator="\n").writerows([*rows, (record, "", "")])
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as out:
        for name, content in {**files, record: lines.getvalue().encode()}.items():
            out.writestr(zipfile.ZipInfo(name, _EPOCH), content, zipfile.ZIP_DEFLATED)
    name = f"{WHEEL_PACKAGE}-{found.version}-{_tag(found)}.whl"
    return Material(name, archive.getvalue(), WHEEL_PACKAGE, found.version, _licence(found))


def _distribution(name: str) -> Distribution:
    try:
        return distribution(name)
    except ModuleNotFoundError as error:
        raise DemoError(f"The package {name} is not installed.", hint="`make setup` installs it.") from error


def _verified(path: PackagePath) -> bytes:
    """A file's content, which must be what the installer noted from the package it had checked."""
    try:
        content = Path(str(path.locate())).read_bytes()
    except OSError as error:
        raise DemoError(f"{path} cannot be read: {error}.", hint="`make setup` installs it anew.") from error
    if path.hash is None or path.hash.mode != "sha256" or path.hash.value != _digest(content):
        raise DemoError(f"{path.locate()} is not what was installed.", hint="Remove .venv; `make setup` makes it anew.")
    return content


def _digest(content: bytes) -> str:
    """A SHA-256 as wheels write it."""
    return base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()


def _tag(found: Distribution) -> str:
    lines = (found.read_text("WHEEL") or "").splitlines()
    (tag,) = (line.removeprefix("Tag: ") for line in lines if line.startswith("Tag: "))
    return tag


def _licence(found: Distribution) -> str:
    return str(found.metadata["License-Expression"])
