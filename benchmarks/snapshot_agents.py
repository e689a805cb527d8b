"""The OpenAI Agents SDK's Docker sandbox as a peer: its client makes the container and takes the snapshots."""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path

from activities.adapters.docker_client import Daemon
from benchmarks.peer_environment import peer_python
from benchmarks.snapshot_boxes import BenchBoxes
from benchmarks.snapshot_process import Partner, clean_environment
from benchmarks.snapshot_subjects import Taken
from benchmarks.snapshot_workload import Workload
from tests.support.boxes import IMAGE, LABEL, Box

_SCRIPT = Path(__file__).parent / "peers" / "openai_agents_snapshots.py"


class AgentsSdk:
    """Its workspace folder as a tar on this host, everything each time; other folders are not in it."""

    name = "openai_agents"

    def __init__(self, boxes: BenchBoxes, folder: Path, workload: Workload, stack: ExitStack) -> None:
        """Start it, and do the work in its container."""
        self._boxes = boxes
        self._snapshots = folder / "openai_agents"
        settings = {"image": IMAGE, "label": LABEL, "folder": str(self._snapshots)}
        argv = [str(peer_python()), str(_SCRIPT), json.dumps(settings)]
        self._partner = stack.enter_context(Partner(argv, clean_environment({}), folder / "openai_agents.log"))
        made = self._partner.ask("create")
        stack.callback(self._partner.ask, "delete")
        self.box = _box(boxes.daemon, made["container"])
        self.workload = Workload(
            workload.files, workload.average, workload.big, workload.changes, root=f"{made['root']}/work"
        )
        self.workload.make(self.box.run)

    def fresh(self) -> None:
        """See `Subject.fresh`: it keeps one snapshot alone."""
        for path in self._snapshots.glob("*"):
            path.unlink()

    def take(self) -> Taken:
        """See `Subject.take`."""
        taken = self._partner.ask("take")
        return Taken(taken["seconds"], taken["bytes"])

    def restore(self) -> float:
        """See `Subject.restore`."""
        done = self._partner.ask("restore")
        listing = f"cd {self.workload.root} && find . -type f -printf '%P %s\\n' | sort | sha256sum"
        if not done["ok"] or _box(self._boxes.daemon, done["container"]).sh(listing) != self.box.sh(listing):
            raise RuntimeError("the peer's restored workspace is not what it was")
        self._boxes.discard(done["container"])
        return float(done["seconds"])

    def stored(self) -> int:
        """See `Subject.stored`."""
        return sum(path.stat().st_size for path in self._snapshots.glob("*"))


def _box(daemon: Daemon, container: str) -> Box:
    return Box(daemon, container, "")
