"""A file of any size passes through in bounded memory: measured in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

GIBIBYTE = 1 << 30
LIMIT_MIB = 200
"""What `docs/snapshots.md` states for content in passing, with the interpreter and the libraries."""

_PROGRAM = """
import asyncio, json, os, sys
from activities.snapshots.capture import Control
from activities.snapshots.packs import PackWriter
from activities.snapshots.threads import Uploads

class Endless:
    def __init__(self, size):
        self.left = size
    def read(self, size):
        size = min(size, self.left, 1 << 20)
        self.left -= size
        return os.urandom(size)

class Discarding:
    stored = 0
    async def put(self, key, data, *, if_none_match=False):
        await asyncio.sleep(0.005)
        self.stored += len(data)

async def main():
    store = Discarding()
    uploads = Uploads(store, Control())
    writer = PackWriter(set(), "packs/", uploads.put)
    def work():
        found = writer.add(Endless(int(sys.argv[1])))
        return found, writer.finish()
    (chunks, size), places = await asyncio.to_thread(work)
    await uploads.finish()
    writer.close()
    # Not `ru_maxrss`: that is also what the process was that started this one.
    (peak,) = [int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM")]
    print(json.dumps({"chunks": len(chunks), "size": size, "stored": store.stored, "peak_mib": peak // 1024}))

asyncio.run(main())
"""


def _measure(size: int) -> dict[str, int]:
    done = subprocess.run([sys.executable, "-c", _PROGRAM, str(size)], check=True, capture_output=True, cwd=Path.cwd())
    return dict(json.loads(done.stdout))


@pytest.mark.slow
def test_a_large_file_needs_little_memory() -> None:
    small, large = _measure(GIBIBYTE // 4), _measure(2 * GIBIBYTE)
    assert large["size"] == 2 * GIBIBYTE
    assert large["stored"] > 2 * GIBIBYTE
    assert large["peak_mib"] < LIMIT_MIB
    # What grows is the list of chunks alone: some hundred bytes for each 128 KiB.
    grown = (large["peak_mib"] - small["peak_mib"]) * (1 << 20)
    assert grown < 2_000 * (large["chunks"] - small["chunks"]) + (24 << 20)
