"""What agents leave in their computers, at full size: subclass `FidelityCases` and give it a `kind`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from activities.ports.snapshots import TakeOptions
from tests.conformance.fidelity_packages import OLDER, PYTHON_PACKAGES
from tests.conformance.fidelity_trees import FAR, GIT, PACKAGES, SPARSE, TINY_FILES, TREE, TREE_ATTRIBUTES, TREE_CHANGES
from tests.conformance.fidelity_world import FidelityWorld
from tests.conformance.snapshot_fidelity import STRANGE_NAMES
from tests.conformance.snapshot_world import UID, progress

if TYPE_CHECKING:
    from pathlib import Path

    from activities.adapters.local_store import LocalStore
    from activities.snapshots.engine import Engine
    from tests.support.boxes import Boxes

QUIET = "DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends"


class FidelityCases(FidelityWorld):
    """Round trips compared by rsync."""

    @pytest.mark.slow
    async def test_a_tree_of_everything(self, engine: Engine, boxes: Boxes, store: LocalStore) -> None:
        source = await self.source(engine, boxes)
        source.sh(TREE)
        source.python(TREE_ATTRIBUTES)
        source.python(STRANGE_NAMES)
        first, _ = await self.round_trip(engine, boxes, store, source)
        source.sh(TREE_CHANGES)
        second, copy = await self.round_trip(engine, boxes, store, source, first)
        # What was restored is a computer like any other: its own snapshots keep what the first one's did.
        copy.sh("cd /tree; echo more >>deep/er/link-c; rm -r strange; mkdir usr; mv /usr/share/perl5 usr || true")
        other = self.new_engine(boxes, store)
        third = await self.take(other, copy, 900, second.ref, 2)
        again = await self.restored(boxes, store, third)
        assert self.compare(copy, again) == []

    @pytest.mark.slow
    async def test_a_git_repository_with_history(self, engine: Engine, boxes: Boxes, store: LocalStore) -> None:
        source = await self.source(engine, boxes)
        source.sh(GIT)
        first, copy = await self.round_trip(engine, boxes, store, source)
        look = "cd /repository; git fsck --full --strict; git stash pop -q; git status -s; git log --oneline | wc -l"
        assert copy.sh(look).splitlines()[-1] == "10"
        source.sh("cd /repository; git stash pop -q; git add -A; git commit -qm more; git rebase -q --root; git gc -q")
        await self.round_trip(engine, boxes, store, source, first)

    async def test_what_the_daemon_copied_in(
        self, engine: Engine, boxes: Boxes, store: LocalStore, tmp_path: Path
    ) -> None:
        source = await self.source(engine, boxes)
        source.sh("mkdir /copied")
        first = await self.take(engine, source, 1)
        (tmp_path / "tree").mkdir()
        (tmp_path / "tree" / "file").write_text("copied")
        # Nothing runs in the container while the daemon does that: a thorough look alone is sure to see it.
        source.put_tree("/copied", tmp_path / "tree")
        taken = await engine.take(
            source.id, agent_uid=UID, generation=1, number=2, parent=first.ref, progress=progress,
            options=TakeOptions(thorough=True),
        )  # fmt: skip
        assert taken.added == 1
        assert self.compare(source, await self.restored(boxes, store, taken)) == []

    @pytest.mark.slow
    async def test_holes(self, engine: Engine, boxes: Boxes, store: LocalStore) -> None:
        source = await self.source(engine, boxes)
        source.python(SPARSE)
        await self.holes_are_kept(engine, boxes, store, source)

    async def test_paths_that_nobody_can_name(self, engine: Engine, boxes: Boxes, store: LocalStore) -> None:
        source = await self.source(engine, boxes)
        source.python(FAR)
        taken = await self.take(engine, source, 1)
        copy = await self.restored(boxes, store, taken)
        # find goes where no path leads, and rsync does not.
        seen, kept = (
            box.run(["find", "/far", "-printf", r"%p\0%y %m %U %T@ %s %l\0"]).split(b"\0") for box in (source, copy)
        )
        nameable = [each for each in zip(seen[::2], seen[1::2], strict=False) if len(each[0]) <= 4096]
        assert list(zip(kept[::2], kept[1::2], strict=False)) == nameable
        assert taken.skipped > 0
        assert (len(nameable), taken.files_total) == (83, 62)
        assert self.compare(source, copy, ("/far",)) == []
        contents = "find /far -type f -execdir sh -c 'cat \"$1\"; echo' - {} \\; | sort -n"
        lines = source.sh(contents).splitlines()
        assert copy.sh(contents).splitlines() == lines[:41]
        # Beyond that nothing is seen to change, either.
        source.python(
            "import os\nos.chdir('/far')\nfor _ in range(25): os.chdir('d' * 200)\nopen('f', 'a').write('more')"
        )
        again = await self.take(engine, source, 2, taken.ref)
        assert (again.unchanged, again.skipped) == (True, taken.skipped)

    @pytest.mark.slow
    async def test_a_sparse_file_of_four_gigabytes(self, engine: Engine, boxes: Boxes, store: LocalStore) -> None:
        source = await self.source(engine, boxes)
        source.python(SPARSE.replace("large = 1 << 26", "large = 1 << 32"))
        await self.holes_are_kept(engine, boxes, store, source)

    @pytest.mark.slow
    async def test_debian_packages(self, engine: Engine, boxes: Boxes, store: LocalStore) -> None:
        source = await self.source(engine, boxes, network="bridge")
        installed = source.sh(f"apt-get -qq update; {QUIET} install {PACKAGES} 2>&1")
        assert installed.count("Setting up ") >= 50
        first, _ = await self.round_trip(engine, boxes, store, source)
        assert first.files_total > 1500
        source.sh(
            f"apt-get -qq -y purge jq tree; {QUIET} install bc; apt-get clean; dpkg --audit; su -s /bin/sh -c id nobody"
        )
        _, copy = await self.round_trip(engine, boxes, store, source, first)
        assert copy.sh("dpkg --verify; dpkg --audit") == source.sh("dpkg --verify; dpkg --audit")
        assert copy.sh("echo 6*7 | bc; sqlite3 :memory: 'select 1'") == "42\n1\n"
        assert copy.sh("getfattr -n security.capability /bin/ping | grep -c capability") == "1\n"

    @pytest.mark.slow
    async def test_a_virtual_environment(self, engine: Engine, boxes: Boxes, store: LocalStore, wheels: Path) -> None:
        source = await self.source(engine, boxes)
        source.sh("mkdir /wheels")
        source.put_tree("/wheels", wheels)
        pip = "/opt/venv/bin/pip install -q --no-index --find-links /wheels"
        source.sh(f"python3 -m venv /opt/venv; {pip} {' '.join(PYTHON_PACKAGES)}")
        first, _ = await self.round_trip(engine, boxes, store, source)
        assert first.files_total > 2000
        source.sh(f"{pip} '{OLDER}'; /opt/venv/bin/pip uninstall -q -y pyyaml")
        _, copy = await self.round_trip(engine, boxes, store, source, first)
        assert copy.sh("/opt/venv/bin/pip check") == "No broken requirements found.\n"
        assert copy.sh("/opt/venv/bin/python -c 'import numpy, flask; print(numpy.arange(4).sum())'") == "6\n"

    @pytest.mark.slow
    async def test_node_modules(self, engine: Engine, boxes: Boxes, store: LocalStore, node_modules: Path) -> None:
        source = await self.source(engine, boxes)
        first = await self.take(engine, source, 1)
        source.sh("mkdir /app")
        source.put_tree("/app", node_modules)
        first, _ = await self.round_trip(engine, boxes, store, source, first)
        assert first.files_total > 4000
        source.sh("cd /app/node_modules; rm -r lodash; mv rxjs reactive; ln -s reactive rxjs; touch .bin")
        await self.round_trip(engine, boxes, store, source, first)

    @pytest.mark.slow
    async def test_a_hundred_thousand_tiny_files(self, engine: Engine, boxes: Boxes, store: LocalStore) -> None:
        source = await self.source(engine, boxes)
        source.python(TINY_FILES)
        first = await self.take(engine, source, 1)
        assert first.files_total == 100_000
        source.sh("cd /tiny; echo x >0/3/77; rm -r 5/55; mv 9/99 9/moved; chmod 600 4/44/*; ln 1/11/1 8/88/link")
        second, _ = await self.round_trip(engine, boxes, store, source, first)
        assert second.files_total == 99_001
