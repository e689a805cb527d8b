"""Verifies: reads everything that the snapshots of an agent need, and says what is wrong and what that affects."""

from __future__ import annotations

import asyncio
from collections import OrderedDict, defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from blake3 import blake3

from activities.errors import (
    ObjectNotFound,
    PathEscape,
    SnapshotDamaged,
    SnapshotError,
    SnapshotNotFound,
    SnapshotTooNew,
)
from activities.ownership import SnapshotForeign
from activities.ports.upkeep import Damage, VerifyProgress, VerifyReport
from activities.snapshots import layout
from activities.snapshots.chain import ChainReader
from activities.snapshots.chunking import digest_of
from activities.snapshots.cutting import is_cut
from activities.snapshots.head import Heads
from activities.snapshots.packs import open_frame
from activities.snapshots.tables import locations

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from activities.ports.store import ObjectStore
    from activities.snapshots.manifest import Manifest
    from activities.snapshots.packs import Location
    from activities.snapshots.sealing import Sealer

_PARALLEL = 4
"""Packs in memory at once: about 80 MiB."""
_MANIFESTS_KEPT = 32
_Wanted = dict[str, dict[tuple[bytes, "Location"], None]]


class _Chains(ChainReader):
    """Reads each manifest of neighbouring chains once."""

    def __init__(self, store: ObjectStore, *, sealer: Sealer) -> None:
        super().__init__(store, sealer=sealer)
        self._kept: OrderedDict[str, tuple[Manifest, str]] = OrderedDict()

    async def manifest(self, ref: str) -> tuple[Manifest, str]:
        found = self._kept.get(ref)
        if found is None:
            found = self._kept[ref] = await super().manifest(ref)
            if len(self._kept) > _MANIFESTS_KEPT:
                self._kept.popitem(last=False)
        self._kept.move_to_end(ref)
        return found


@dataclass(slots=True)
class _Findings:
    """What is known so far."""

    wanted: _Wanted = field(default_factory=dict[str, "dict[tuple[bytes, Location], None]"])
    """By pack: the chunks that some manifest places there."""
    damage: list[Damage] = field(default_factory=list[Damage])
    lost: set[str] = field(default_factory=set[str])


class Verifying:
    """Verifies agents of one store."""

    def __init__(self, store: ObjectStore, sealer: Sealer) -> None:
        self._store = store
        self._sealer = sealer

    async def verify(
        self, agent_uid: str, tell: Callable[[VerifyProgress], None], resume: VerifyProgress | None
    ) -> VerifyReport:
        """See `Upkeep.verify`."""
        head = (await Heads(self._store).view(agent_uid)).head
        refs = [info.key async for info in self._store.list(layout.manifests_prefix(agent_uid))]
        if not refs and head is None:
            msg = f"The agent {agent_uid} has no snapshots."
            raise SnapshotNotFound(msg)
        newest = resume.newest if resume is not None else max((layout.parse_ref(ref)[1] for ref in refs), default=0)
        refs = [ref for ref in refs if layout.parse_ref(ref)[1] <= newest]
        at = resume or VerifyProgress(text="", newest=newest)
        findings = _Findings()
        for ref in {head.ref, head.current} - {None, *refs} if head is not None else ():
            if ref is not None and layout.parse_ref(ref)[1] <= newest and await self._store.head(ref) is None:
                _note(findings, ref, "missing", "The head names this snapshot, and it is not in the store.", [ref])
        chains = _Chains(self._store, sealer=self._sealer)
        for done, ref in enumerate(refs, 1):
            tell(at.model_copy(update={"text": f"manifest {done} of {len(refs)}"}))
            await self._check_manifest(chains, ref, findings)
        at = await self._check_packs(findings.wanted, at, tell)
        await self._affected(refs, at.damage, findings)
        return VerifyReport(
            agent_uid=agent_uid,
            snapshots=len(refs),
            packs=at.packs,
            chunks=at.chunks,
            bytes=at.bytes,
            damage=tuple(findings.damage),
            lost=tuple(sorted(findings.lost)),
        )

    async def _check_manifest(self, chains: _Chains, ref: str, findings: _Findings) -> None:
        """Check a manifest and its chain, and note what it needs."""
        try:
            found, _ = await chains.manifest(ref)
            for digest, place in locations(found).items():
                findings.wanted.setdefault(place.pack, {})[digest, place] = None
        except SnapshotNotFound:
            # It was pruned meanwhile.
            return
        except (SnapshotDamaged, SnapshotTooNew, SnapshotForeign) as error:
            _note(findings, ref, "damaged", str(error), [ref])
            return
        try:
            await chains.state(ref)
        except SnapshotNotFound:
            return
        except (SnapshotDamaged, PathEscape) as error:
            if await self._store.head(ref) is None:
                return
            below = found.parent
            missing = below is not None and found.kind == "delta" and await self._store.head(below) is None
            if missing and below is not None:
                _note(findings, below, "missing", f"{ref} builds on it, and it is not in the store.", [ref])
            elif below is None or below not in findings.lost:
                _note(findings, ref, "damaged", str(error), [ref])
            else:
                _blame(findings, below, ref)

    async def _check_packs(
        self, wanted: _Wanted, at: VerifyProgress, tell: Callable[[VerifyProgress], None]
    ) -> VerifyProgress:
        """Read packs in the order of their keys, a few at once; tell after each."""
        keys = [pack for pack in sorted(wanted) if pack > at.after]
        running: list[asyncio.Task[tuple[int, int, Damage | None]]] = []
        waiting = iter(keys)
        done = 0
        try:
            while True:
                while len(running) < _PARALLEL and (pack := next(waiting, None)) is not None:
                    running.append(asyncio.create_task(self._check_pack(pack, wanted[pack])))
                if not running:
                    return at
                size, chunks, damage = await running[0]
                running.pop(0)
                at = at.model_copy(
                    update={
                        "text": f"pack {done + 1} of {len(keys)}",
                        "after": keys[done],
                        "packs": at.packs + 1,
                        "chunks": at.chunks + chunks,
                        "bytes": at.bytes + size,
                        "damage": (*at.damage, damage) if damage is not None else at.damage,
                    }
                )
                done += 1
                tell(at)
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    async def _check_pack(
        self, pack: str, chunks: Mapping[tuple[bytes, Location], None]
    ) -> tuple[int, int, Damage | None]:
        try:
            data = await self._store.get(pack)
        except ObjectNotFound:
            return 0, 0, Damage(key=pack, kind="missing", detail="The pack is not in the store.", snapshots=())
        wrong = await asyncio.to_thread(self._wrong, pack, data, chunks)
        damage = Damage(key=pack, kind="damaged", detail=wrong, snapshots=()) if wrong else None
        return len(data), len(chunks), damage

    def _wrong(self, pack: str, data: bytes, chunks: Mapping[tuple[bytes, Location], None]) -> str:
        """Say what is wrong with a pack; nothing when it is sound."""
        if blake3(data).hexdigest() != pack.rpartition("/")[2] and not is_cut(data):
            return "Its bytes do not match its name, which is their digest."
        frames: defaultdict[tuple[str, int, int, int], list[tuple[bytes, Location]]] = defaultdict(list)
        for digest, place in chunks:
            frames[place.frame].append((digest, place))
        for (_, offset, stored, plain), found in frames.items():
            try:
                content = open_frame(data[offset : offset + stored], plain, self._sealer)
            except SnapshotDamaged as error:
                return f"The frame at byte {offset} cannot be read: {error}"
            for digest, place in found:
                if digest_of(content[place.start : place.start + place.length]) != digest:
                    return f"The chunk {digest.hex()} does not match its digest."
        return ""

    async def _affected(self, refs: list[str], damage: tuple[Damage, ...], findings: _Findings) -> None:
        """Find the snapshots that need what lies in bad packs."""
        if not damage:
            return
        bad = {found.key: list[str]() for found in damage}
        chains = _Chains(self._store, sealer=self._sealer)
        for ref in refs:
            try:
                state = await chains.state(ref)
            except SnapshotError:
                continue
            needed = {state.chunks[digest].pack for entry in state.entries.values() for digest in entry.chunks}
            for pack in needed & bad.keys():
                bad[pack].append(ref)
                findings.lost.add(ref)
        findings.damage.extend(found.model_copy(update={"snapshots": tuple(bad[found.key])}) for found in damage)


def _note(findings: _Findings, key: str, kind: str, detail: str, lost: list[str]) -> None:
    for ref in lost:
        findings.lost.add(ref)
    if any(found.key == key for found in findings.damage):
        for ref in lost:
            _blame(findings, key, ref)
        return
    sure = "missing" if kind == "missing" else "damaged"
    findings.damage.append(Damage(key=key, kind=sure, detail=detail, snapshots=tuple(lost)))


def _blame(findings: _Findings, key: str, ref: str) -> None:
    """Add a snapshot to those that are lost with another, or with what that one was lost with."""
    findings.lost.add(ref)
    findings.damage = [
        found.model_copy(update={"snapshots": (*found.snapshots, ref)})
        if key == found.key or key in found.snapshots
        else found
        for found in findings.damage
    ]
