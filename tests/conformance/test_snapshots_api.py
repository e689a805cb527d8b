"""Snapshots captured through the Docker API alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.conformance.snapshot_failures import SnapshotFailureTests
from tests.conformance.snapshot_fidelity import SnapshotFidelityTests

if TYPE_CHECKING:
    from activities.snapshots.engine import Engine
    from tests.support.boxes import Boxes


class TestApiFidelity(SnapshotFidelityTests):
    """Captured through the Docker API alone."""

    kind = "api"


class TestApiFailures(SnapshotFailureTests):
    """Captured through the Docker API alone."""

    kind = "api"

    @pytest.mark.slow
    async def test_names_that_can_be_foreseen_lead_nowhere(self, engine: Engine, boxes: Boxes) -> None:
        box, _ = await self.fresh(engine, boxes)
        foreseen = ".hibernaut-list-$i .hibernaut-$i .hibernaut-$i/list"
        box.sh(
            f"echo precious >/precious; for i in $(seq 3000); do for name in {foreseen}; do "
            "ln -s /precious /dev/shm/$name 2>/dev/null || true; done; done"
        )
        taken = await self.take(engine, box, 1)
        assert taken.added == 1
        assert box.sh("cat /precious") == "precious\n"
