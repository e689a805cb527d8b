"""Whether this process can enter containers' network namespaces: where it runs, and what the runtime makes of them."""

import os
import sys
from pathlib import Path
from typing import Any

from activities.adapters.docker_client import Daemon, translated
from activities.errors import SandboxRefused


def check_possible(daemon: Daemon, runtime: str) -> None:
    """SandboxRefused when containers of this runtime can have no way out here."""
    if sys.platform != "linux" or os.geteuid() != 0:
        raise SandboxRefused(
            "network mode allowlist needs a worker that is root, on Linux, for it listens in the container's "
            "network namespace; run the worker as root on the daemon's host, or use the modes none or open"
        )
    if runtime == "runc":
        return
    if runtime != "runsc":
        raise SandboxRefused(
            f"network mode allowlist is not possible with the runtime {runtime}, whose containers have a kernel "
            "and a network of their own; use runc or runsc, or the modes none or open"
        )
    with translated():
        found: dict[str, Any] = daemon.api.info().get("Runtimes", {}).get(runtime) or {}
    arguments = [str(one).lstrip("-") for one in found.get("runtimeArgs") or ()]
    if "network=host" not in arguments:
        raise SandboxRefused(
            "network mode allowlist with the runtime runsc needs `--network=host` among its runtimeArgs in "
            "Docker's daemon.json (gVisor then uses the container's own network namespace, which has a loopback "
            f"device alone); here they are {' '.join(map(str, found.get('runtimeArgs') or ())) or 'none'}"
        )


def is_of(pid: int, sandbox_id: str) -> bool:
    """Whether a process is one of the container, and its network namespace not the host's."""
    try:
        cgroups = Path(f"/proc/{pid}/cgroup").read_text(encoding="utf-8")
        apart = Path(f"/proc/{pid}/ns/net").stat().st_ino != Path("/proc/self/ns/net").stat().st_ino
    except OSError:
        return False
    return sandbox_id in cgroups and apart


def elsewhere(sandbox_id: str) -> str:
    """What is said when it is not."""
    return (
        f"the process of {sandbox_id[:12]} is not to be seen from here; for network mode allowlist the worker has to "
        "run on the Docker daemon's host, in its process namespace"
    )
