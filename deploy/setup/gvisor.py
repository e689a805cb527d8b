"""gVisor's `runsc`: the one that is installed, else Debian's package unpacked into the cache, this machine unchanged.

The package of Debian 13 runs on Debian 12 as it is (a static program), where Debian 12's own is too old for newer
kernels. It comes from the mirror this machine uses, checked by apt against the archive's signature.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path

from deploy.setup import apt
from deploy.setup.console import SetupError, cache_dir, is_root, probe, run, say

FLAGS = ("--platform=systrap", "--network=none", "--overlay2=none")
"""What Docker is to start it with.

`systrap` needs no virtualization, and sandboxes have no network to emulate. Without `--overlay2=none` files are kept
where neither Docker nor a snapshot on the host sees them, and are gone when the container is restarted.
"""

_SUITE = "trixie"
_SECONDS = 30.0


def ensure_gvisor() -> Path:
    """Make sure that a `runsc` that works on this machine is there; its path.

    Raises:
        SetupError: There is none and none can be had, or gVisor does not run on this kernel.
    """
    unpacked = cache_dir() / "gvisor"
    cached = unpacked / "usr" / "bin" / "runsc"
    complaint = ""
    installed = shutil.which("runsc")
    for known in (Path(installed) if installed else None, cached):
        if known is not None and known.exists():
            complaint = _complaint(known)
            if not complaint:
                return _ready(known)
    _fetch(unpacked)
    complaint = _complaint(cached)
    if complaint:
        msg = (
            f"gVisor does not run on this machine: {complaint}. Install a newer runsc and put it on PATH, or leave "
            "the runtime of sandboxes at runc."
        )
        raise SetupError(msg)
    return _ready(cached)


def runtime_config(runsc: Path) -> dict[str, object]:
    """The entry of Docker's `runtimes` setting."""
    return {"path": str(runsc), "runtimeArgs": list(FLAGS)}


def _ready(runsc: Path) -> Path:
    version = probe([str(runsc), "--version"]).stdout.splitlines()
    say(f"gVisor: {version[0] if version else 'runsc'} is ready in {runsc}")
    entry = json.dumps({"runtimes": {"runsc": runtime_config(runsc)}})
    say(f"gVisor: to offer it to sandboxes, merge this into Docker's daemon.json and reload the daemon: {entry}")
    return runsc


def _complaint(runsc: Path) -> str:
    """Why it does not work here; empty when it does. Only root can try a whole sandbox."""
    trial = [*FLAGS[:2], "do", "true"] if is_root() else ["--version"]
    answer = probe([str(runsc), *trial], timeout=_SECONDS)
    if answer.returncode == 0:
        return ""
    said = (answer.stderr or answer.stdout).strip().splitlines()
    return said[-1] if said else f"`runsc {' '.join(trial)}` ended with exit code {answer.returncode}"


def _fetch(target: Path) -> None:
    """Download and unpack the package, whole or not at all."""
    if not apt.is_debian():
        msg = (
            "gVisor is not installed, and this machine is no Debian or Ubuntu whose package could be taken. "
            "Install runsc, put it on PATH, and repeat."
        )
        raise SetupError(msg)
    with tempfile.TemporaryDirectory(prefix="hibernaut-gvisor-") as name:
        folder = Path(name)
        # apt downloads as a user of its own.
        folder.chmod(0o755)
        environ = {"APT_CONFIG": str(_own_apt(folder)), "LC_ALL": "C.UTF-8"}
        apt_get = ["apt-get", "-o", "APT::Update::Error-Mode=any"]
        run([*apt_get, "update"], doing="reading the package list that has gVisor", env=environ)
        run([*apt_get, "download", "runsc"], doing="downloading gVisor (7 MB)", env=environ, cwd=folder)
        packages = list(folder.glob("runsc_*.deb"))
        if len(packages) != 1:
            msg = f"apt downloaded {len(packages)} packages of gVisor instead of one."
            raise SetupError(msg)
        partial = target.with_name("gvisor.partial")
        shutil.rmtree(partial, ignore_errors=True)
        run(["dpkg-deb", "--extract", str(packages[0]), str(partial)], doing="unpacking gVisor")
    shutil.rmtree(target, ignore_errors=True)
    partial.rename(target)


def _own_apt(folder: Path) -> Path:
    """An apt of its own in a folder, that knows one archive and nothing of what is installed; its configuration."""
    for sub in ("lists/partial", "cache/archives/partial"):
        (folder / sub).mkdir(parents=True)
    (folder / "status").touch()
    (folder / "sources.list").write_text("".join(f"{archive.line}\n" for archive in _archives()), encoding="utf-8")
    settings = {
        # The machine's hooks are not for this.
        "Dir::Etc::main": "/dev/null",
        "Dir::Etc::parts": "/dev/null",
        "Dir::Etc::sourcelist": folder / "sources.list",
        "Dir::Etc::sourceparts": "/dev/null",
        "Dir::Etc::preferencesparts": "/dev/null",
        "Dir::State::lists": folder / "lists",
        "Dir::State::status": folder / "status",
        "Dir::Cache": folder / "cache",
        "Acquire::Languages": "none",
    }
    configuration = folder / "apt.conf"
    lines = [f'{name} "{value}";' for name, value in settings.items()]
    configuration.write_text("\n".join([*lines, apt.settings()]), encoding="utf-8")
    return configuration


def _archives() -> list[apt.Archive]:
    """Where the package is: Debian's newer release on this machine's mirror; on Ubuntu its own archives."""
    codename = apt.os_release().get("VERSION_CODENAME", "")
    try:
        known = apt.archives(codename)
    except SetupError:
        if not is_root():
            raise
        apt.update()
        known = apt.archives(codename)
    debian = [one for one in known if (one.origin, one.release, one.component) == ("Debian", codename, "main")]
    if debian:
        return [apt.Archive("Debian", debian[0].site, _SUITE, "main")]
    return known
