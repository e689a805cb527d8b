"""One world for all faults; each case finds it whole. CHAOS_RESULTS names the file of the fault table."""

import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.chaos import results
from tests.chaos.trial import FaultResult
from tests.chaos.world import ChaosWorld


@pytest.fixture(scope="session")
async def whole_world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ChaosWorld]:
    async with ChaosWorld(tmp_path_factory.mktemp("chaos")) as world:
        yield world


@pytest.fixture
async def world(whole_world: ChaosWorld) -> ChaosWorld:
    await whole_world.mend()
    return whole_world


@pytest.fixture(scope="session")
def table() -> Iterator[list[FaultResult]]:
    """Where every run of a fault is noted; the table is written when all have run."""
    found: list[FaultResult] = []
    yield found
    if found and (path := os.environ.get("CHAOS_RESULTS")):
        results.write(found, Path(path))
