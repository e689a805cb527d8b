"""What holds a sandbox's processes down: Docker's host configuration made from a spec; docs/isolation.md tells why."""

import json
from functools import cache
from importlib import resources
from typing import Any

from docker.types import Ulimit

from hibernaut.models import SandboxSpec

GVISOR = "runsc"
GVISOR_PIDS = 4096
"""Docker's limit counts the threads of gVisor's own kernel, not the processes in it: to reach it ends the sandbox."""
MEBIBYTE = 1024 * 1024


def limits(spec: SandboxSpec) -> dict[str, Any]:
    """The arguments of docker-py's `create_host_config` that limit a container, without its network."""
    memory = spec.memory_mb * MEBIBYTE
    held = spec.isolation
    return {
        "mem_limit": memory,
        "memswap_limit": memory + held.swap_mb * MEBIBYTE,
        "nano_cpus": int(spec.cpus * 1_000_000_000),
        "pids_limit": max(spec.pids, GVISOR_PIDS) if spec.runtime == GVISOR else spec.pids,
        "cap_drop": ["ALL"],
        "cap_add": list(held.capabilities),
        "security_opt": _security(spec),
        "ulimits": _ulimits(spec),
        "shm_size": held.shm_mb * MEBIBYTE,
        # Reaps zombies and obeys SIGTERM: a container whose PID 1 does not takes ten seconds to stop.
        "init": True,
        # Nothing of PID 1 is worth keeping, and a log on the host grows without bound.
        "log_config": {"type": "none"},
        "runtime": spec.runtime,
    }


@cache
def seccomp_profile() -> str:
    """The allowlist of system calls, as the daemon takes it."""
    text = resources.files("activities.adapters").joinpath("seccomp.json").read_text(encoding="utf-8")
    # On one line: it is kept with every container.
    return json.dumps(json.loads(text), separators=(",", ":"))


def _security(spec: SandboxSpec) -> list[str]:
    if spec.isolation.seccomp == "docker":
        return ["no-new-privileges"]
    return ["no-new-privileges", f"seccomp={seccomp_profile()}"]


def _ulimits(spec: SandboxSpec) -> list[Ulimit]:
    # Not of processes: the kernel counts them per user id over all containers of the host, so that one agent could
    # use up another's. The limit of pids is the container's own.
    files = spec.isolation.nofile
    found = [Ulimit(name="nofile", soft=files, hard=files)]
    if spec.disk_mb is not None:
        size = spec.disk_mb * MEBIBYTE
        found.append(Ulimit(name="fsize", soft=size, hard=size))
    return found
