"""A Docker daemon that offers gVisor, beside the machine's own."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from deploy.setup.gvisor import FLAGS, ensure_gvisor
from tests.support.boxes import IMAGE
from tests.support.dockerd import RuntimeConfig, SecondDockerd

RUNTIME: Final = "runsc"


@asynccontextmanager
async def gvisor_dockerd(home: Path) -> AsyncGenerator[SecondDockerd]:
    """Run one that holds the sandbox image, until the block ends."""
    runsc = ensure_gvisor()
    async with SecondDockerd(home, runtimes={RUNTIME: RuntimeConfig(str(runsc), FLAGS)}) as daemon:
        await daemon.load(IMAGE)
        yield daemon
