"""A reader that knows the format's document alone restores what the engine stored."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from activities.adapters.docker_captures import DockerCaptures
from activities.snapshots.engine import Engine
from activities.snapshots.sealing import Key, KeyRing
from tests.conformance.fidelity_trees import SPARSE, TREE, TREE_ATTRIBUTES, TREE_CHANGES
from tests.conformance.fidelity_world import DOCKERS_OWN, FidelityWorld
from tests.conformance.snapshot_fidelity import STRANGE_NAMES
from tests.support import plain_reader
from tests.support.overlays import image_of
from tests.support.rsync import differences

if TYPE_CHECKING:
    from activities.adapters.local_store import LocalStore
    from tests.support.boxes import Boxes

SEAL = b"HIBERNAUT-SEAL1\n"
KEYS = [bytes([number]) * 32 for number in (1, 2)]
# Each snapshot is of another deployment: one without keys, one with a key, one with a newer key.
RINGS = [
    KeyRing([]),
    KeyRing([Key("old", KEYS[0])]),
    KeyRing([Key("new", KEYS[1]), Key("old", KEYS[0])]),
]


def test_it_is_as_small_as_it_is_said_to_be() -> None:
    lines = Path(plain_reader.__file__).read_text().splitlines()
    assert len(lines) < 100
    assert not [line for line in lines if "activities" in line]


@pytest.mark.parametrize("kind", ["host", "api"])
@pytest.mark.slow
class TestPlainReader(FidelityWorld):
    """Chains of either capture, with everything that a file system may hold."""

    @pytest.fixture(autouse=True)
    def _kind(self, kind: str) -> None:
        assert kind in ("host", "api")
        self.kind = kind

    async def test_every_snapshot(self, boxes: Boxes, store: LocalStore, tmp_path: Path) -> None:
        source = await self.source(self.new_engine(boxes, store), boxes)
        reader = plain_reader.PlainReader(lambda key: (tmp_path / "store" / key).read_bytes(), KEYS)
        scripts = (TREE, "rm /tree/old; mkdir /tree/old; printf new >/tree/old/x", TREE_CHANGES)
        parent: str | None = None
        for number, (script, ring) in enumerate(zip(scripts, RINGS, strict=True), 1):
            engine = Engine(store, DockerCaptures(boxes.daemon, kind=self.kind), sealer=ring)
            source.sh(script)
            if number == 1:
                for program in (TREE_ATTRIBUTES, STRANGE_NAMES, SPARSE):
                    source.python(program)
            taken = await self.take(engine, source, number, parent)
            parent = taken.ref
            with image_of(source, tmp_path / str(number)) as target:
                reader.restore(taken.ref, target)
                assert differences(source.root, target, DOCKERS_OWN) == []
        manifests = sorted((tmp_path / "store/agents/agent-1/snapshots/manifests").iterdir())
        for path, ring in zip(manifests, RINGS, strict=True):
            head = SEAL + bytes.fromhex(ring.key_id) if ring.key_id else b"HIBERNAUT-SNAP1\n"
            assert path.read_bytes().startswith(head)
