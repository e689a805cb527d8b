"""What a spec may say of snapshots, both ways of capture."""

from __future__ import annotations

from tests.conformance.snapshot_options import SnapshotOptionsTests


class TestHostOptions(SnapshotOptionsTests):
    """Captured beside the daemon."""

    kind = "host"


class TestApiOptions(SnapshotOptionsTests):
    """Captured through the Docker API alone."""

    kind = "api"
