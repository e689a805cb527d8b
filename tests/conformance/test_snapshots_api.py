"""Snapshots captured through the Docker API alone."""

from __future__ import annotations

from tests.conformance.snapshot_tests import SnapshotEngineTests


class TestApiCapture(SnapshotEngineTests):
    """From anywhere the daemon is reached."""

    kind = "api"
