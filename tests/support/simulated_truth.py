"""What a simulated store owes its users: every snapshot that was acknowledged, until somebody rightly removed it."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from activities.snapshots import layout, retention
from activities.snapshots.chain import _assemble
from activities.snapshots.manifest import decode
from tests.support.simulated_store import ACTOR

if TYPE_CHECKING:
    from collections.abc import Iterator

    from activities.snapshots.manifest import Manifest
    from activities.snapshots.state import State
    from tests.support.simulated_store import SimulatedStore

Tree = dict[bytes, bytes]


class Loss(AssertionError):
    """Something that was promised is gone."""


@dataclass(slots=True)
class Promise:
    """One acknowledged snapshot."""

    tree: Tree | None
    """None: nobody can say."""
    keys: frozenset[str]
    """Of all objects that it needs."""


@dataclass(slots=True)
class Truth:
    """Watches one store."""

    store: SimulatedStore
    promises: dict[str, Promise] = field(default_factory=dict[str, Promise])
    removed: set[str] = field(default_factory=set[str])
    """Snapshots that were rightly removed."""
    held: dict[str, str] = field(default_factory=dict[str, str])
    """By agent: the snapshot that its workflow goes on from."""
    borrowers: int = 0
    """Snapshots that need packs of other agents."""
    named: set[str] = field(default_factory=set[str])

    def __post_init__(self) -> None:
        self.store.on_delete = self.deleted

    def acknowledge(self, ref: str, tree: Tree | None) -> None:
        """A snapshot was reported to be durable."""
        if ref in self.removed:
            return
        known = self.promises.get(ref)
        if known is not None:
            if known.tree is not None and tree is not None and known.tree != tree:
                msg = f"{ref} was acknowledged with other files before"
                raise Loss(msg)
            return
        state = self.read(ref)
        packs = {state.chunks[digest].pack for entry in state.entries.values() for digest in entry.chunks}
        keys = {*packs, *(found for found, _ in self._chain(ref))}
        for key in keys - self.store.objects.keys():
            msg = f"{ref} was acknowledged, and {key} is not in the store"
            raise Loss(msg)
        self.borrowers += any(layout.owner_of(pack) != layout.parse_ref(ref)[0] for pack in packs)
        self.promises[ref] = Promise(tree, frozenset(keys))

    def hold(self, uid: str, ref: str) -> None:
        """The workflow of an agent was told of a snapshot, and goes on from it."""
        self.held[uid] = ref

    def forget(self, uid: str) -> None:
        """The agent is about to be deleted."""
        self.held.pop(uid, None)
        for ref in [ref for ref in self.promises if layout.parse_ref(ref)[0] == uid]:
            self._remove(ref)

    def deleted(self, key: str) -> None:
        """Somebody deleted an object."""
        actor = ACTOR.get()
        if key in self.promises and actor.startswith("prune"):
            created = datetime.fromisoformat(decode(self.gone(key), key)[0].created)
            young = self.store.schedule.now.astimezone(UTC) - created < retention.RECENT
            if key in self.named or key in self.held.values() or young:
                msg = f"{actor} deleted {key}, which was to be kept"
                raise Loss(msg)
            self._remove(key)
        for ref, promise in self.promises.items():
            if key in promise.keys:
                msg = f"{actor} deleted {key}, which {ref} needs"
                raise Loss(msg)
        if "/manifests/" in key:
            self.removed.add(key)

    def gone(self, key: str) -> bytes:
        """Return the bytes of the object that was deleted last."""
        return self.store.last_deleted[key]

    def read(self, ref: str) -> State:
        """Read a snapshot behind everybody's back."""
        try:
            found = [(found, digest) for _, (found, digest) in self._chain(ref)]
        except KeyError as error:
            msg = f"{ref} was acknowledged, and {error} is not in the store"
            raise Loss(msg) from None
        return _assemble(ref, found)

    def named_packs(self) -> set[str]:
        """Return every pack that some manifest names."""
        refs = [key for key in self.store.objects if "/manifests/" in key]
        return {pack for ref in refs for pack in decode(self.store.objects[ref].data, ref)[0].packs}

    def packs(self) -> set[str]:
        """Return every pack."""
        return {key for key in self.store.objects if layout.is_pack_key(key)}

    def _remove(self, ref: str) -> None:
        del self.promises[ref]
        self.removed.add(ref)

    def _chain(self, ref: str) -> Iterator[tuple[str, tuple[Manifest, str]]]:
        at: str | None = ref
        while at is not None:
            found, digest = decode(self.store.objects[at].data, at)
            yield at, (found, digest)
            at = found.parent if found.kind == "delta" else None
