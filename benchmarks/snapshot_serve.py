"""Our engine in a process of its own, so that its memory is its alone: as a worker, it stays up between snapshots.

`python -m benchmarks.snapshot_serve` reads requests from its input, a JSON object a line, and answers each with one:
a store is opened under a name by `open`, which the others name. The store's credentials are in the environment.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from activities.adapters.docker_client import Daemon
from benchmarks.snapshot_ours import Ours
from workers.memory import give_back_what_is_freed


def peak_memory() -> int:
    """The most bytes that were resident in this process at once."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))


async def serve() -> None:
    """Answer requests until there are no more."""
    opened: dict[str, Ours] = {}
    daemon = Daemon()
    async with AsyncExitStack() as stack:
        stack.callback(daemon.close)
        while line := await asyncio.to_thread(sys.stdin.readline):
            request: dict[str, Any] = json.loads(line)
            if request["do"] == "open":
                ours = Ours(request["store"], request["kind"], daemon, sealed=bool(request["sealed"]))
                opened[request["name"]] = await stack.enter_async_context(ours)
                await ours.prepare(request["container"])
                answer: dict[str, object] = {}
            else:
                answer = await _answer(request, opened)
            print(json.dumps(answer), flush=True)


async def _answer(request: Mapping[str, Any], opened: Mapping[str, Ours]) -> dict[str, object]:
    match request["do"]:
        case "take":
            seconds, info = await opened[request["name"]].take()
            return {"seconds": seconds, **info.model_dump()}
        case "restoring":
            await opened[request["name"]].restoring()
            return {}
        case "restore":
            return (await opened[request["name"]].restore(request["container"])).model_dump()
        case "forget":
            await opened[request["name"]].forget(request["container"])
            return {}
        case "memory":
            return {"peak": peak_memory()}
        case other:
            raise ValueError(other)


if __name__ == "__main__":
    # As a worker does.
    give_back_what_is_freed()
    asyncio.run(serve())
