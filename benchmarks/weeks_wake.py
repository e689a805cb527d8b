"""From a message to the start of its first command, for an agent that sleeps with much or little in its files.

Ours has no container when the message comes: it makes one, fetches the delta from the S3 server and asks the model.
Two peers do less in the same run: `docker start` of a container that was only stopped (it stays on its host, and
its disk is not given back), and `docker load`, create and start of what `docker commit` and `docker save` put into a
file on the local disk (the machine can be given back, but only a copy of that file elsewhere outlives its disk; the
base image's layers are in the file, and in the daemon already). Neither asks a model. Every
command prints its own time.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from pathlib import Path
from typing import Any
from uuid import uuid4

from benchmarks.report import middle
from benchmarks.snapshot_programs import settle
from benchmarks.weeks_engine import RUN, Engine
from benchmarks.weeks_plan import MEGABYTE, Wake
from benchmarks.weeks_results import tell
from hibernaut.agent import AgentHandle
from tests.support.boxes import Box, Boxes

NOW = "date +%s%N"


def work(size: int) -> str:
    """The command that writes so many bytes into files of 1 MB."""
    if not size:
        return "true"
    return f"mkdir work && head -c {size} /dev/urandom | split -b {MEGABYTE} -a 4 - work/part-"


async def measure(plan: Wake, world: Engine) -> dict[str, Any]:
    """Each size in turn: ours and the peers, round after round."""
    figures: dict[str, Any] = {}
    boxes = Boxes()
    try:
        for size in plan.sizes:
            with tempfile.TemporaryDirectory(prefix="hibernaut-bench-") as folder:
                figures[str(size)] = await _sized(world, boxes, size, plan.rounds, Path(folder))
            tell(f"{size:,} bytes: {figures[str(size)]}")
    finally:
        await asyncio.to_thread(boxes.close)
    return {"rounds": plan.rounds, "by_size": figures}


async def _sized(world: Engine, boxes: Boxes, size: int, rounds: int, folder: Path) -> dict[str, Any]:
    agent = await world.agents.start(f"wake-{uuid4().hex[:8]}", world.spec)
    await agent.send(f"{RUN}{work(size)}", timeout=300)
    box = await asyncio.to_thread(_peer, boxes, size)
    saved = await asyncio.to_thread(_save, boxes, box, folder)
    times: dict[str, list[float]] = {"ours": [], "docker_start": [], "docker_load_run": []}
    hibernating: list[float] = []
    for _ in range(rounds):
        asked = time.monotonic()
        await agent.hibernate(timeout=300)
        hibernating.append((time.monotonic() - asked) * 1000)
        await asyncio.to_thread(settle)
        sent = time.time()
        said = (await agent.send(f"{RUN}{NOW}", timeout=300)).text
        times["ours"].append(_since(sent, said))
        times["docker_start"].append(await asyncio.to_thread(_start, boxes, box))
        times["docker_load_run"].append(await asyncio.to_thread(_load, boxes, saved))
    await _is_whole(agent, size)
    await agent.close()
    return {
        **{f"{name}_ms": middle(values) for name, values in times.items()},
        "all_ms": {name: [round(value) for value in values] for name, values in times.items()},
        "hibernate_ms": middle(hibernating),
        "saved_image_bytes": saved.stat().st_size,
    }


def _since(began: float, printed: str) -> float:
    """Milliseconds from then to what a command printed."""
    return int(printed) / 1e6 - began * 1000


def _peer(boxes: Boxes, size: int) -> Box:
    """A container with the same in its files."""
    box = boxes.make()
    box.run(["sh", "-c", f"cd /home/agent && {work(size)}"])
    return box


def _save(boxes: Boxes, box: Box, folder: Path) -> Path:
    """What `docker commit` and `docker save` make of it; the image itself is not kept."""
    api = boxes.daemon.api
    image = str(api.commit(box.id)["Id"])
    saved = folder / "image.tar"
    with saved.open("wb") as file:
        for chunk in boxes.daemon.streams.get_image(image):
            file.write(chunk)
    api.remove_image(image)
    return saved


def _start(boxes: Boxes, box: Box) -> float:
    """Milliseconds from `docker start` to a first command."""
    api = boxes.daemon.api
    api.kill(box.id)
    api.wait(box.id)
    settle()
    began = time.time()
    api.start(box.id)
    return _since(began, box.run(["sh", "-c", NOW]).decode())


def _load(boxes: Boxes, saved: Path) -> float:
    """Milliseconds from `docker load` to a first command in a new container."""
    settle()
    began = time.time()
    with saved.open("rb") as file:
        (image,) = boxes.daemon.client.images.load(file)
    box = boxes.make(image=str(image.id))
    took = _since(began, box.run(["sh", "-c", NOW]).decode())
    boxes.remove(box)
    boxes.daemon.api.remove_image(image.id)
    return took


async def _is_whole(agent: AgentHandle, size: int) -> None:
    """See that a woken agent has all its bytes.

    Raises:
        RuntimeError: It has not, and its time is no figure.
    """
    found = (await agent.send(f"{RUN}cat work/* 2>/dev/null | wc -c", timeout=300)).text
    if int(found) != size:
        raise RuntimeError(f"of {size} bytes {found} came back")
