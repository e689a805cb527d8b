"""What the doctor says of OCI runtimes: which way the daemon starts each, and what is missing for those it cannot."""

from collections.abc import Callable
from typing import Any

PROGRAMS = {"runsc": ("runsc",), "kata": ("containerd-shim-kata-v2", "kata-runtime")}
KATA_TYPE = "io.containerd.kata.v2"
HINTS = {
    "runsc": "`make gvisor` in a checkout fetches it and says what to add",
    "kata": "docs/isolation.md says how to set it up",
}


def examined(
    name: str, info: dict[str, Any], find: Callable[[str], str | None], *, kvm: bool, here: bool
) -> tuple[str, list[str]]:
    """How the daemon starts a runtime, and what is missing for it.

    Args:
        name: `runc`, `runsc` or `kata`.
        info: What the daemon answers to `/info`.
        find: The path of a program of this machine, or None.
        kvm: Whether /dev/kvm can be used.
        here: Whether the daemon is of this machine, so that its programs can be looked for.
    """
    offered: dict[str, dict[str, Any]] = info.get("Runtimes") or {}
    lacks: list[str] = []
    if name not in offered:
        if name in PROGRAMS and not any(find(program) for program in PROGRAMS[name]):
            lacks.append(f"no program {' or '.join(PROGRAMS[name])} on this machine")
        lacks.append(f"no `{name}` under `runtimes` in the daemon's settings (/etc/docker/daemon.json)")
    else:
        # One that is given by its type is a shim, which containerd finds by a name made from that.
        kind = str(offered[name].get("runtimeType") or "")
        program = str(offered[name].get("path") or (PROGRAMS["kata"][0] if kind == KATA_TYPE else ""))
        if here and program and find(program) is None:
            lacks.append(f"the daemon starts it by {program}, which is not on this machine")
    if name == "kata" and not kvm:
        lacks.append("no use of /dev/kvm, without which its virtual machines do not start")
    return _way(offered.get(name) or {}), lacks


def _way(runtime: dict[str, Any]) -> str:
    what = str(runtime.get("path") or runtime.get("runtimeType") or "")
    arguments: list[str] = runtime.get("runtimeArgs") or []
    return f"offered: {' '.join([what, *map(str, arguments)])}" if what else "offered"
