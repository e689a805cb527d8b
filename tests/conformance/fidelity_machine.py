"""Changes, snapshots and restores in any order: whatever was, comes back, and can be gone on from."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from hypothesis import event, note, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from activities.adapters.docker_captures import DockerCaptures
from activities.adapters.local_store import LocalStore
from activities.ports.snapshots import TakeOptions
from activities.snapshots.engine import Engine
from tests.conformance.fidelity_hand import Hand
from tests.conformance.fidelity_world import DOCKERS_OWN, TOUCH
from tests.conformance.snapshot_world import UID, progress
from tests.support.boxes import Boxes
from tests.support.overlays import Kept, keep
from tests.support.rsync import differences

if TYPE_CHECKING:
    from activities.ports.snapshots import SnapshotInfo
    from tests.support.boxes import Box

Kind = Literal["host", "api"]
Operation = tuple[str, *tuple[object, ...]]

DIRECTORIES = ("/w", "/w/a", "/w/a/b", "/w/c", "/w/é\udcff", "/etc/skel", "/etc/alternatives", "/usr/share/keyrings")
FILES = (
    "/w/x", "/w/y", "/w/a/x", "/w/a/b/x", "/w/c/y", "/w/é\udcff/ ", "/w/new\nline",
    "/etc/issue", "/etc/profile", "/etc/os-release", "/etc/skel/.bashrc", "/etc/skel/x", "/etc/alternatives/awk",
)  # fmt: skip
# Nothing is done there, and to look costs a second.
UNTOUCHED = ("/usr/bin", "/usr/lib", "/usr/sbin", "/usr/share/perl*", "/usr/share/python*", "/var/lib")

files = st.sampled_from(FILES)
paths = st.sampled_from(FILES + DIRECTORIES)
seeds = st.integers(1, 9999)
sizes = st.sampled_from((0, 1, 30, 4096, 20_000, 300_000))
places = st.sampled_from((0, 1, 100, 5000, 200_000, 9_000_000))
names = st.sampled_from(("tag", "other"))
ids = st.sampled_from((0, 1, 1000, 65_534, 2**32 - 2))
times = st.sampled_from((0, -1, 10**18, 10**18 + 1, 1_600_000_000_000_000_000, 4_102_444_800_000_000_001, -(10**17)))
modes = st.sampled_from((0o644, 0o600, 0o755, 0o4755, 0o2711, 0o1777, 0))

operations = st.one_of(
    st.tuples(st.sampled_from(("write", "append")), files, seeds, sizes),
    st.tuples(st.sampled_from(("overwrite", "overwrite_unseen")), files, seeds, sizes, places),
    st.tuples(st.just("truncate"), files, places),
    st.tuples(st.sampled_from(("hold", "write_held", "map_write")), files, seeds),
    st.tuples(st.just("map_again"), st.integers(0, 5), seeds),
    st.tuples(st.just("map_sync"), st.integers(0, 5)),
    st.tuples(st.just("replace"), files, files, seeds),
    st.tuples(st.sampled_from(("link", "symlink", "to_link")), files, files),
    st.tuples(st.sampled_from(("rename", "exchange", "copy")), paths, paths),
    st.tuples(st.just("remove"), paths),
    # Of those that the image has, too: what is under the new one is then hidden.
    st.tuples(st.just("to_directory"), st.sampled_from(DIRECTORIES), seeds),
    st.tuples(st.sampled_from(("to_directory", "to_file")), paths, seeds),
    st.tuples(st.just("mkdir"), paths),
    st.tuples(st.just("punch"), files, places, sizes),
    st.tuples(st.just("capability"), files, st.integers(0, 30)),
    st.tuples(st.just("acl"), paths, st.sampled_from(("access", "default")), ids),
    st.tuples(st.just("times"), paths, times),
    st.tuples(st.just("attribute"), paths, names, seeds),
    st.tuples(st.just("no_attribute"), paths, names),
    st.tuples(st.just("chmod"), paths, modes),
    st.tuples(st.just("owner"), paths, ids, ids),
    st.tuples(
        st.just("device"), files, st.sampled_from((0o010000, 0o020000, 0o060000)), st.sampled_from((0x7C8, 0x12345678))
    ),
)


@dataclass(slots=True)
class Life:
    """A container that is changed, and who takes its snapshots."""

    box: Box
    kind: Kind
    engine: Engine
    generation: int


class FidelityMachine(RuleBasedStateMachine):
    """One agent: its container, its snapshots, and a copy of what its files were at each."""

    def __init__(self) -> None:
        super().__init__()
        self._loop = asyncio.new_event_loop()
        self._folder = Path(tempfile.mkdtemp(prefix="hibernaut-fidelity-"))
        self._store = LocalStore(self._folder / "store")
        self._boxes = Boxes()
        self._taken: dict[str, SnapshotInfo] = {}
        self._kept: dict[str, Kept] = {}
        self._newest: str | None = None
        self._number = 0
        self._life: Life
        self._hand: Hand | None = None

    @initialize(kind=st.sampled_from(("host", "api")))
    def _begin(self, kind: Kind) -> None:
        self._life = self._new_life(kind, 1)
        self._life.box.sh(f"{TOUCH}; mkdir /w; touch -d 2020-01-01 /usr/share /usr")
        self._hand = Hand(self._life.box)

    @rule(changes=st.lists(operations, min_size=1, max_size=15))
    def change(self, changes: list[Operation]) -> None:
        assert self._hand is not None
        for each in changes:
            event(f"{each[0]}: {'done' if self._hand.do(*each) else 'not possible'}")

    @rule(changes=st.lists(operations, min_size=15, max_size=40))
    def change_much(self, changes: list[Operation]) -> None:
        self.change(changes)

    @rule(thorough=st.booleans())
    def snapshot(self, *, thorough: bool) -> None:
        self._number += 1
        life = self._life
        taken = self._loop.run_until_complete(
            life.engine.take(
                life.box.id,
                agent_uid=UID,
                generation=life.generation,
                number=self._number,
                parent=self._newest,
                progress=progress,
                options=TakeOptions(thorough=thorough),
            )
        )
        note(f"{taken.ref} by {life.kind}, {'unchanged' if taken.unchanged else taken.bytes_new_stored}")
        if taken.ref not in self._kept:
            self._kept[taken.ref] = keep(life.box, self._folder / str(self._number))
            self._taken[taken.ref] = taken
        self._newest = taken.ref
        self._compare(taken.ref, life.box)

    @rule()
    def worker_starts_anew(self) -> None:
        self._life.engine = self._new_engine(self._life.kind)

    @precondition(lambda self: bool(self._kept))
    @rule(which=st.integers(0, 99), kind=st.sampled_from(("host", "api")))
    def restore(self, which: int, kind: Kind) -> None:
        ref = sorted(self._kept)[which % len(self._kept)]
        self._boxes.remove(self._restored(ref, kind, 99).box)

    @precondition(lambda self: bool(self._kept))
    @rule(which=st.integers(0, 99), kind=st.sampled_from(("host", "api")))
    def go_on_from(self, which: int, kind: Kind) -> None:
        ref = sorted(self._kept)[which % len(self._kept)]
        before = self._life
        self._life = self._restored(ref, kind, before.generation + 1)
        self._newest = ref
        self._close_hand()
        self._boxes.remove(before.box)
        self._hand = Hand(self._life.box)

    def teardown(self) -> None:
        try:
            if hasattr(self, "_life") and self._newest is not None:
                self.snapshot(thorough=True)
                self._compare(self._newest, self._restored(self._newest, self._life.kind, 99).box, everything=True)
        finally:
            self._close_hand()
            self._boxes.close()
            self._loop.run_until_complete(self._loop.shutdown_default_executor())
            self._loop.close()
            shutil.rmtree(self._folder)

    def _close_hand(self) -> None:
        if self._hand is not None:
            self._hand.close()
            self._hand = None

    def _restored(self, ref: str, kind: Kind, generation: int) -> Life:
        life = self._new_life(kind, generation)
        done = self._loop.run_until_complete(
            life.engine.restore(life.box.id, agent_uid=UID, generation=generation, ref=ref, progress=progress)
        )
        assert (done.restored, done.reason) == (ref, None)
        self._compare(ref, life.box)
        return life

    def _compare(self, ref: str, box: Box, *, everything: bool = False) -> None:
        with self._kept[ref].mounted() as was:
            found = differences(was, box.root, (*DOCKERS_OWN, *(() if everything else UNTOUCHED)))
        assert not found, "\n".join(found)

    def _new_life(self, kind: Kind, generation: int) -> Life:
        engine = self._new_engine(kind)
        box = self._boxes.make()
        self._loop.run_until_complete(engine.prepare(box.id, agent_uid=UID, generation=generation))
        return Life(box, kind, engine, generation)

    def _new_engine(self, kind: Kind) -> Engine:
        return Engine(self._store, DockerCaptures(self._boxes.daemon, kind=kind))
