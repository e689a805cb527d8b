"""Snapshots of containers under gVisor, captured through the Docker API: what they must keep, and what must hold."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any, cast

import pytest

from activities.adapters.docker_client import Daemon
from tests.conformance.fidelity_inside import InsideCases
from tests.conformance.snapshot_failures import SnapshotFailureTests
from tests.conformance.snapshot_fidelity import SPECIAL_FILES, SnapshotFidelityTests
from tests.support.boxes import Boxes
from tests.support.dockerd import SecondDockerd
from tests.support.gvisor import RUNTIME, gvisor_dockerd

pytestmark = pytest.mark.slow

LEFT_OUT = cast("Any", None)
# gVisor makes no device files and no hard links to pipes, and knows no fractions of seconds before 1970.
REWRITTEN = {"mknod null c 1 3; mknod disk b 7 200\n": "", "; ln pipe pipe-b": "", "1960-": "1970-", "1969-": "1971-"}


def rewritten(script: str) -> str:
    for known, instead in REWRITTEN.items():
        assert known in script
        script = script.replace(known, instead)
    return script


@pytest.fixture(scope="module")
async def dockerd(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[SecondDockerd]:
    async with gvisor_dockerd(tmp_path_factory.mktemp("gvisor")) as daemon:
        yield daemon


class GvisorBoxes:
    """Containers under gVisor."""

    @pytest.fixture
    def boxes(self, dockerd: SecondDockerd) -> Iterator[Boxes]:
        made = Boxes(Daemon(dockerd.host), runtime=RUNTIME)
        try:
            yield made
        finally:
            made.close()


class TestGvisorFidelity(GvisorBoxes, SnapshotFidelityTests):
    """Captured under gVisor."""

    kind = "api"
    special_files = rewritten(SPECIAL_FILES)
    shows_holes = False
    # It keeps none.
    test_extended_attributes = LEFT_OUT
    # Takes minutes, and shows nothing of the runtime that the others do not.
    test_each_of_many_snapshots_restores = LEFT_OUT


class TestGvisorComparisons(GvisorBoxes, InsideCases):
    """Compared from inside."""

    kind = "api"


class TestGvisorFailures(GvisorBoxes, SnapshotFailureTests):
    """Captured under gVisor: what freezes, dies and restores there. The rest is the engine's own."""

    kind = "api"
    test_a_retry_returns_the_same_snapshot = LEFT_OUT
    test_a_writer_that_dies_before_the_manifest = LEFT_OUT
    test_a_damaged_snapshot_falls_back = LEFT_OUT
    test_hostile_manifests_are_refused = LEFT_OUT
