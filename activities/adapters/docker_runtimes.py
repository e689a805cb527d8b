"""Which OCI runtimes a Docker daemon offers, and a clear error for one that it does not."""

from typing import Any

from activities.errors import SandboxRefused

STANDARD = "runc"
"""Every daemon has it."""


def offered(info: dict[str, Any]) -> tuple[str, ...]:
    """The names that a container may ask for, as the daemon's `info` tells them."""
    runtimes: dict[str, Any] = info.get("Runtimes") or {}
    return tuple(sorted(runtimes))


def check_runtime(name: str, info: dict[str, Any]) -> None:
    """SandboxRefused, with what there is, when the daemon does not offer a runtime."""
    names = offered(info)
    if name not in names:
        raise SandboxRefused(
            f"the Docker daemon of this host does not offer the runtime {name}, only {', '.join(names) or 'none'}; "
            "install it and name it under `runtimes` in the daemon's settings (`hibernaut doctor` says what is "
            "missing), or start an agent with another runtime"
        )
