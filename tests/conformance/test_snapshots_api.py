"""Snapshots captured through the Docker API alone."""

from __future__ import annotations

from tests.conformance.snapshot_failures import SnapshotFailureTests
from tests.conformance.snapshot_fidelity import SnapshotFidelityTests


class TestApiFidelity(SnapshotFidelityTests):
    """Captured through the Docker API alone."""

    kind = "api"


class TestApiFailures(SnapshotFailureTests):
    """Captured through the Docker API alone."""

    kind = "api"
