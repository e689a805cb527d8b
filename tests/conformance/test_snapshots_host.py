"""Snapshots captured beside the daemon."""

from __future__ import annotations

from tests.conformance.snapshot_tests import SnapshotEngineTests


class TestHostCapture(SnapshotEngineTests):
    """As root on the Docker host."""

    kind = "host"
