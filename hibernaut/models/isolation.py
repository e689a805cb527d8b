"""How tightly a sandbox is held, beside its limits; every default is the tightest with which packages install."""

from typing import Annotated, Literal

from pydantic import Field, field_validator

from hibernaut.models.base import Model

Capability = Literal[
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "NET_RAW",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
    "SYS_NICE",
    "SYS_PTRACE",
]
"""What a spec may ask for: Docker's own set, and what debuggers and schedulers need. No other leaves a container
contained."""

CAPABILITIES: tuple[Capability, ...] = (
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "SETFCAP",
    "SETGID",
    "SETUID",
    "SYS_CHROOT",
)
"""What package managers need: files of other owners (CHOWN, DAC_OVERRIDE, FOWNER, FSETID), scripts that become another
user (SETUID, SETGID) and end its processes (KILL), packages with device nodes (MKNOD; the nodes open nothing) and with
file capabilities (SETFCAP), and chroot, by which some images become the user of the commands."""


class IsolationSpec(Model):
    """What the processes of a sandbox may ask of the kernel."""

    capabilities: tuple[Capability, ...] = CAPABILITIES
    """Capabilities of commands that run as root, without `CAP_`; all others are dropped."""
    seccomp: Literal["hardened", "docker"] = "hardened"
    """`hardened`: an allowlist of system calls without io_uring, without rare kinds of sockets. `docker`: the Docker
    daemon's own default."""
    nofile: Annotated[int, Field(ge=64, le=1_048_576)] = 16_384
    """Files that one process may have open; no more than the Docker daemon itself, if that runs without
    CAP_SYS_RESOURCE."""
    swap_mb: Annotated[int, Field(ge=0, le=1_048_576)] = 0
    """Swap beside the memory limit, in MiB."""
    shm_mb: Annotated[int, Field(ge=1, le=1_048_576)] = 64
    """Size of /dev/shm, in MiB; what is in it counts as memory."""

    @field_validator("capabilities")
    @classmethod
    def _once(cls, value: tuple[Capability, ...]) -> tuple[Capability, ...]:
        twice = sorted({name for name in value if value.count(name) > 1})
        if twice:
            msg = f"names {twice[0]} twice"
            raise ValueError(msg)
        return value
