"""Restores through the Docker API by two tars at once, which else write large deltas alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from activities.adapters import api_restore
from activities.adapters.api_unpack import Unpacker
from tests.conformance.snapshot_fidelity import SnapshotFidelityTests

if TYPE_CHECKING:
    from collections.abc import Iterator

    from activities.adapters.docker_client import Daemon
    from activities.snapshots.engine import Engine
    from tests.support.boxes import Boxes


@pytest.mark.slow
class TestApiShared(SnapshotFidelityTests):
    """Everything that is restored at all, with two tars."""

    kind = "api"

    @pytest.fixture(autouse=True)
    def started(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Unpacker]]:
        """Every tar that was started for a restore."""
        monkeypatch.setattr(api_restore, "_SHARED_BYTES", 0)
        made: list[Unpacker] = []

        class Noted(Unpacker):
            def __init__(self, daemon: Daemon, container_id: str) -> None:
                super().__init__(daemon, container_id)
                made.append(self)

        monkeypatch.setattr(api_restore, "Unpacker", Noted)
        yield made
        assert len(made) % 2 == 0
        assert made

    async def test_links_and_folders_of_both(self, engine: Engine, boxes: Boxes) -> None:
        box, fresh = await self.fresh(engine, boxes)
        # Names of one inode in the first and in the last folder, and folders whose times are old.
        box.sh(
            "for d in a b c d e f g h; do mkdir -p /srv/$d/x; for n in 1 2 3; do echo $d$n >/srv/$d/x/$n; done; "
            "done; ln /srv/a/x/1 /srv/h/x/other; ln /srv/h/x/2 /srv/a/x/other; "
            "rm -r /usr/share/doc; mkdir /usr/share/doc; echo new >/usr/share/doc/new; rm /etc/os-release; "
            "mkdir -p /etc/os-release/below; echo 1 >/etc/os-release/f; head -c 3000000 /dev/urandom >/srv/d/large; "
            "chmod 500 /srv/?/x; touch -d @1000.25 /srv/*/x /srv/* /usr/share"
        )
        taken = await self.take(engine, box, 1)
        await self.check_restore(engine, boxes, box, fresh, taken.ref)
