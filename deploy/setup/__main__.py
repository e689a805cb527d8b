"""`python -m deploy.setup [STEP ...]`: the steps that every machine needs in order, or the ones that are named."""

from __future__ import annotations

import argparse
import fcntl
import sys
import time
from collections.abc import Callable
from functools import partial

from deploy.setup.console import SetupError, cache_dir, fail, say
from deploy.setup.docker import ensure_docker
from deploy.setup.gvisor import ensure_gvisor
from deploy.setup.peers import ensure_peers
from deploy.setup.rsync import ensure_rsync
from deploy.setup.sandbox import ensure_sandbox_image, ensure_template
from deploy.setup.venv import ensure_venv

NEEDED = {"venv": ensure_venv, "docker": ensure_docker, "sandbox": ensure_sandbox_image}
STEPS: dict[str, Callable[[], object]] = {
    **NEEDED,
    "gvisor": ensure_gvisor,
    "peers": ensure_peers,
    "rsync": ensure_rsync,
}


def _template(step: str) -> Callable[[], object] | None:
    kind, colon, name = step.partition(":")
    return partial(ensure_template, name) if kind == "template" and colon else None


def main() -> int:
    """Run the steps; 0 when the machine is ready, 1 when a step cannot go on."""
    parser = argparse.ArgumentParser(prog="deploy/setup/run", description="Makes this machine ready for Hibernaut.")
    parser.add_argument(
        "steps", nargs="*", metavar="STEP", help=f"one of {', '.join(STEPS)} (default: {', '.join(NEEDED)})"
    )
    chosen = parser.parse_args().steps or list(NEEDED)
    steps = {one: _template(one) or STEPS.get(one) for one in chosen}
    if unknown := [one for one, step in steps.items() if step is None]:
        parser.error(f"no such step: {', '.join(sorted(unknown))}; the steps are {', '.join(STEPS)}, template:NAME")
    started = time.monotonic()
    try:
        with (cache_dir() / "setup.lock").open("w") as lock:
            # Two `make` at once would otherwise build the same environment into each other.
            fcntl.flock(lock, fcntl.LOCK_EX)
            for step in filter(None, steps.values()):
                step()
    except SetupError as error:
        return fail(error)
    except KeyboardInterrupt:
        return 130
    say(f"ready ({time.monotonic() - started:.1f} s)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
