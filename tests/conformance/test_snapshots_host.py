"""Snapshots captured beside the daemon."""

from __future__ import annotations

from tests.conformance.snapshot_failures import SnapshotFailureTests
from tests.conformance.snapshot_fidelity import SnapshotFidelityTests


class TestHostFidelity(SnapshotFidelityTests):
    """Captured beside the daemon."""

    kind = "host"


class TestHostFailures(SnapshotFailureTests):
    """Captured beside the daemon."""

    kind = "host"
