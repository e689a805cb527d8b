"""What a sandbox host offers and lacks, judged from what its Docker daemon and the machine say; nothing is changed."""

import os
import re
import shutil
import socket
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, cast
from urllib.parse import quote

import httpx2

from hibernaut._doctor_runtimes import HINTS, examined
from hibernaut.errors import HibernautError

SOCKET = "/var/run/docker.sock"
OLDEST = (20, 10)
LITTLE_BYTES = 1 << 30
SKEW_S = 5.0
TIMEOUT_S = 10.0

State = Literal["ok", "missing", "failed"]
_FRACTION = re.compile(r"(\.\d{6})\d+")


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at."""

    name: str
    state: State
    """`ok`; `missing`: agents run, without this; `failed`: no agent can run here."""
    found: str
    hint: str = ""
    """How to mend it, when it is not ok."""


@dataclass(frozen=True, slots=True)
class Machine:
    """What this machine says of itself, beside the daemon."""

    now: datetime
    find: Callable[[str], str | None]
    """The path of a program, or None."""
    kvm: bool
    root: bool
    free_bytes: Callable[[str], int | None]
    """Bytes free below a folder; None when it is not here."""
    mounted: Callable[[str], str] = lambda _: ""
    """The options of the mount that a folder is on; empty when they are not known."""
    apart: bool = False
    """Whether the daemon is another machine's: what lies here under the same names is not its own."""

    @classmethod
    def this(cls) -> "Machine":
        """The one that this runs on."""
        return cls(
            now=datetime.now(UTC),
            find=shutil.which,
            kvm=os.access("/dev/kvm", os.R_OK | os.W_OK),
            root=os.geteuid() == 0,
            free_bytes=_free,
            mounted=_mounted,
        )


def examine(host: str | None, image: str) -> list[Check]:
    """Ask the Docker daemon of this machine, and judge.

    Args:
        host: Its URL (`unix:///run/other.sock`, `tcp://host:port`); its usual socket by default.
        image: That sandboxes are made of unless a spec says otherwise.
    """
    try:
        url = host or os.environ.get("DOCKER_HOST") or f"unix://{SOCKET}"
        with _client(url) as client:
            version, info = _get(client, "/version"), _get(client, "/info")
            asked = client.get(f"/images/{quote(image, safe='/:@')}/json")
    except (httpx2.HTTPError, httpx2.InvalidURL, HibernautError, ValueError, OSError) as error:
        told = f"no Docker daemon answers: {error}"
        hint = (
            "start it (`systemctl start docker`, or `make setup` in a checkout), or set DOCKER_HOST to the one to use"
        )
        return [Check("docker", "failed", told, hint)]
    there, machine = asked.is_success, Machine.this()
    if _elsewhere(url, info):
        machine = replace(machine, apart=True, free_bytes=_not_here, mounted=_no_options)
    return [*judged(version, info, machine), _image(image, there=there)]


def judged(version: dict[str, Any], info: dict[str, Any], machine: Machine) -> list[Check]:
    """Every check but that of the image, from what the daemon answers to `/version` and `/info`."""
    return [
        _docker(version),
        *_runtimes(info, machine),
        *_kernel(info),
        *_disk(info, machine),
        _beside(info, machine),
        _allowlist(info, machine),
        _clock(info, machine),
    ]


def _docker(version: dict[str, Any]) -> Check:
    text = str(version.get("Version") or "unknown")
    numbers = tuple(int(part) for part in re.findall(r"\d+", text)[:2])
    found = f"{text} on Linux {version.get('KernelVersion') or '?'}"
    if str(version.get("Os") or "linux") != "linux":
        return Check("docker", "failed", f"{text} on {version['Os']}", "sandboxes are Linux containers")
    if numbers < OLDEST:
        return Check("docker", "failed", found, "Docker 20.10 or later is needed")
    return Check("docker", "ok", found)


def _runtimes(info: dict[str, Any], machine: Machine) -> list[Check]:
    here = machine.free_bytes(str(info.get("DockerRootDir") or "")) is not None
    checks: list[Check] = []
    for name in ("runc", "runsc", "kata"):
        way, lacks = examined(name, info, machine.find, kvm=machine.kvm, here=here)
        if lacks:
            state: State = "failed" if name == "runc" else "missing"
            checks.append(Check(f"runtime {name}", state, "; ".join(lacks), HINTS.get(name, "")))
        else:
            checks.append(Check(f"runtime {name}", "ok", way))
    return checks


def _kernel(info: dict[str, Any]) -> list[Check]:
    limits = {"memory": "MemoryLimit", "CPU": "CpuCfsQuota", "processes": "PidsLimit", "swap": "SwapLimit"}
    lost = [name for name, field in limits.items() if not info.get(field)]
    group = f"version {info.get('CgroupVersion') or '1'}, driver {info.get('CgroupDriver') or '?'}"
    hint = "the kernel must be started with these controllers (swap: `swapaccount=1`)"
    # Swap is the one of them whose absence makes a limit wider, not void.
    state: State = "ok" if not lost else "missing" if lost == ["swap"] else "failed"
    found = group if not lost else f"{group}; no limit of {', '.join(lost)}"
    options: list[str] = info.get("SecurityOptions") or []
    names = {part.removeprefix("name=") for option in options for part in option.split(",") if part.startswith("name=")}
    return [
        Check("cgroups", state, found, hint if lost else ""),
        Check("seccomp", "ok", "supported")
        if "seccomp" in names
        else Check("seccomp", "failed", "not supported by this kernel or daemon", "use a kernel that has it"),
        Check("user namespaces", "ok", "containers' root is no root of the host")
        if names & {"userns", "rootless"}
        else Check("user namespaces", "missing", "containers' root is the host's, less what is dropped"),
    ]


def _disk(info: dict[str, Any], machine: Machine) -> list[Check]:
    driver = str(info.get("Driver") or "?")
    status: list[list[str]] = info.get("DriverStatus") or []
    backing = next((value for name, value, *_ in status if name == "Backing Filesystem"), "")
    storage = f"{driver} on {backing}" if backing else driver
    folder = str(info.get("DockerRootDir") or "")
    free = machine.free_bytes(folder)
    checks = [
        Check("storage", "ok", storage),
        _quotas(driver, backing, storage, machine.mounted(folder)),
    ]
    if free is None:
        return checks
    found = f"{free / 1e9:.1f} GB below {folder}"
    little = free < LITTLE_BYTES
    hint = "free some: sandboxes are stopped when they use up the host's reserve (HIBERNAUT_DISK_RESERVE_MB)"
    return [*checks, Check("free disk", "failed" if little else "ok", found, hint if little else "")]


def _quotas(driver: str, backing: str, storage: str, options: str) -> Check:
    name, late = "disk quotas", "a watch holds sandboxes to `disk_mb`, a moment late"
    if driver in {"btrfs", "zfs"}:
        return Check(name, "ok", f"by {driver}")
    if driver != "overlay2" or backing != "xfs":
        return Check(
            name, "missing", f"none on {storage}: {late}", "an xfs with `pquota` for the daemon's files has them"
        )
    if not options:
        return Check(name, "ok", "by xfs, if it is mounted with project quotas")
    if {"pquota", "prjquota"} & set(options.split(",")):
        return Check(name, "ok", "by xfs, which is mounted with project quotas")
    return Check(name, "missing", f"xfs is mounted without project quotas: {late}", "mount it with `pquota`")


def _beside(info: dict[str, Any], machine: Machine) -> Check:
    folder = str(info.get("DockerRootDir") or "")
    if machine.root and machine.free_bytes(folder) is not None:
        return Check("worker beside the daemon", "ok", "root, and the daemon's files are here")
    why = "not root" if not machine.root else f"{folder} is not on this machine"
    hint = "run the worker as root on the daemon's machine: snapshots are faster, and disk limits hold"
    return Check("worker beside the daemon", "missing", f"{why}: snapshots take the way through Docker's API", hint)


def _allowlist(info: dict[str, Any], machine: Machine) -> Check:
    name = "network allowlist"
    if machine.apart:
        return Check(name, "missing", "the daemon is another machine's", "run the worker as root on that machine")
    if not machine.root:
        return Check(name, "missing", "not root", "run the worker as root, as a proxy listens in each container")
    runtimes: dict[str, dict[str, Any]] = info.get("Runtimes") or {}
    none = "; kata has none" if "kata" in runtimes else ""
    arguments: list[str] = runtimes.get("runsc", {}).get("runtimeArgs") or []
    if "runsc" in runtimes and "network=host" not in {one.lstrip("-") for one in arguments}:
        hint = "for runsc add `--network=host` to its runtimeArgs in the daemon's settings"
        return Check(name, "missing", f"with runc alone{none}", hint)
    return Check(name, "ok", f"with runc{' and runsc' if 'runsc' in runtimes else ''}{none}")


def _clock(info: dict[str, Any], machine: Machine) -> Check:
    try:
        told = datetime.fromisoformat(_FRACTION.sub(r"\1", str(info.get("SystemTime"))))
    except ValueError:
        return Check("clock", "missing", "the daemon does not tell its time")
    skew = abs((machine.now - told).total_seconds())
    if skew > SKEW_S:
        return Check("clock", "missing", f"{skew:.0f} s apart from the daemon's", "keep both with NTP")
    return Check("clock", "ok", f"{told.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC")


def _image(name: str, *, there: bool) -> Check:
    if there:
        return Check("sandbox image", "ok", name)
    hint = "`make setup` in a checkout builds the default one; an agent may name another"
    return Check("sandbox image", "missing", f"{name} is not on this host", hint)


def _elsewhere(url: str, info: dict[str, Any]) -> bool:
    """Whether the daemon of this URL is another machine's."""
    scheme, _, rest = url.partition("://")
    near = rest.startswith(("localhost", "127.", "[::1]")) or info.get("Name") == os.uname().nodename
    return scheme != "unix" and not near


def _client(url: str) -> httpx2.Client:
    scheme, _, rest = url.partition("://")
    if scheme == "unix":
        # The library leaves its socket open when nobody listens (httpcore2).
        with socket.socket(socket.AF_UNIX) as probe:
            probe.connect(rest)
        transport = httpx2.HTTPTransport(uds=rest)
        return httpx2.Client(transport=transport, base_url="http://docker", timeout=TIMEOUT_S)
    if scheme in {"tcp", "http"}:
        return httpx2.Client(base_url=f"http://{rest}", timeout=TIMEOUT_S, trust_env=False)
    raise HibernautError(f"{url} cannot be asked from here; on the host itself its daemon's socket can")


def _get(client: httpx2.Client, path: str) -> dict[str, Any]:
    answer = client.get(path)
    answer.raise_for_status()
    found: dict[str, Any] | object = answer.json()
    if not isinstance(found, dict):
        raise ValueError(f"what answers to {path} is no Docker daemon")  # noqa: TRY004  # an answer, not a mistake of ours
    return cast("dict[str, Any]", found)


def _mounted(folder: str) -> str:
    """The options of the file system itself: of the mount, those behind the dash of a line of mountinfo."""
    try:
        lines = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        place = Path(folder).resolve()
    except OSError:
        return ""
    best, options = -1, ""
    for line in lines:
        mount, _, file_system = line.partition(" - ")
        point = Path(mount.split(" ")[4])
        if place.is_relative_to(point) and len(point.parts) >= best:
            best, options = len(point.parts), file_system.split(" ")[-1]
    return options


def _not_here(_: str) -> None:
    return None


def _no_options(_: str) -> str:
    return ""


def _free(folder: str) -> int | None:
    try:
        found = os.statvfs(Path(folder))
    except OSError:
        return None
    return found.f_bavail * found.f_frsize
