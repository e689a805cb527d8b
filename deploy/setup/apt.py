"""System packages by apt: only as root, only on Debian and its children, and never silently."""

from __future__ import annotations

import functools
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from deploy.setup.console import SetupError, is_root, probe, run, say

if TYPE_CHECKING:
    from collections.abc import Sequence

_ENV = {"DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8"}
_LOCK = ("-o", "DPkg::Lock::Timeout=300")
_SETTINGS = ("Acquire::http::Proxy", "Acquire::https::Proxy", "Acquire::Check-Valid-Until", "Acquire::Check-Date")


@dataclass(frozen=True, slots=True)
class Archive:
    """A part of a distribution's package archive."""

    origin: str
    """Debian or Ubuntu."""
    site: str
    """The URL of the mirror this machine uses."""
    release: str
    """A code name, with `-updates` or `-security` after it."""
    component: str

    @property
    def line(self) -> str:
        """The archive as a line of a sources.list."""
        keyring = Path(f"/usr/share/keyrings/{self.origin.lower()}-archive-keyring.gpg")
        signed = f"[signed-by={keyring}] " if keyring.exists() else ""
        return f"deb {signed}{self.site} {self.release} {self.component}"


def os_release() -> dict[str, str]:
    """The fields of /etc/os-release; empty where there is none."""
    path = Path("/etc/os-release")
    if not path.exists():
        return {}
    pairs = (line.split("=", 1) for line in path.read_text(encoding="utf-8").splitlines() if "=" in line)
    return {key: value.strip('"') for key, value in pairs}


def is_debian() -> bool:
    """Whether this machine is Debian, Ubuntu or another child of Debian, with apt."""
    release = os_release()
    family = {release.get("ID", ""), *release.get("ID_LIKE", "").split()}
    return bool(family & {"debian", "ubuntu"}) and shutil.which("apt-get") is not None


def can_install() -> bool:
    """Whether `install` may do anything here."""
    return is_root() and is_debian()


@functools.cache
def update() -> None:
    """Bring apt's package lists up to date, once a run; a source that does not answer is not an error yet."""
    try:
        run(["apt-get", *_LOCK, "update"], doing="updating apt's package lists", env=_ENV)
    except SetupError as error:
        say(f"not every apt source answered; going on with what is known ({str(error).splitlines()[-1].strip()})")


def knows(package: str) -> bool:
    """Whether apt could install this package."""
    return probe(["apt-cache", "show", "--no-all-versions", package]).returncode == 0


def archives(codename: str) -> list[Archive]:
    """The Debian or Ubuntu archives that this machine's apt uses for its own release, however they are written down.

    Raises:
        SetupError: apt knows none.
    """
    listing = probe(["apt-get", "indextargets", "Created-By: Packages"]).stdout
    found: list[Archive] = []
    for stanza in listing.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in stanza.splitlines() if ": " in line)
        origin, release = fields.get("Origin", ""), fields.get("Release", "")
        if origin not in {"Debian", "Ubuntu"} or not release.startswith(codename) or "backports" in release:
            continue
        archive = Archive(origin, fields["Site"], release, fields["Component"])
        if archive not in found:
            found.append(archive)
    if not found:
        msg = f"apt knows no archive for {codename!r}. Run `apt-get update`, see that it succeeds, and repeat."
        raise SetupError(msg)
    return found


def settings() -> str:
    """This machine's apt settings without which its archives may not be reachable."""
    dump = probe(["apt-config", "dump"]).stdout
    return "\n".join(line for line in dump.splitlines() if line.startswith(_SETTINGS)) + "\n"


def install(packages: Sequence[str], *, why: str) -> None:
    """Install Debian packages, without their recommendations.

    Raises:
        SetupError: Not root, not a Debian, or apt refused.
    """
    names = " ".join(packages)
    if not can_install():
        msg = f"{why}. Missing package(s): {names}. Install them as root (Debian, Ubuntu: apt-get install {names})."
        raise SetupError(msg)
    say(f"{why}: installing {names} with apt")
    update()
    run(
        ["apt-get", *_LOCK, "install", "--yes", "--no-install-recommends", *packages],
        doing=f"installing {names}",
        env=_ENV,
    )
