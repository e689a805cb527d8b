"""Deletions: counted before, looked for after, certified once, whatever happens in between."""

import random
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from pydantic import JsonValue
from temporalio.testing import ActivityEnvironment

from activities.adapters.local_store import LocalStore
from activities.audit import AgentAudit
from activities.audit_digests import Digests
from activities.deletion import AUDIT, DeletionActivities
from activities.errors import SnapshotOvertaken
from activities.housekeeping import EVENTS, KeepingActivities
from activities.late import delete_late
from activities.ports.snapshots import Progress
from activities.remnants import remnants_of
from activities.snapshots.catalogue import Catalogue
from activities.snapshots.engine import Engine
from activities.snapshots.entries import Entry, Kind
from activities.snapshots.rewriting import Kept, Rewriting
from activities.snapshots.sealing import PLAIN
from activities.snapshots.sharing import Bounds
from hibernaut.contracts import PurgeRequest, StoreKeys
from hibernaut.contracts.deletion import CertifyRequest, CertifyResult, SurveyRequest, SurveyResult
from hibernaut.models import Event, EventKind
from hibernaut.models.deletion import Certificate, is_intact, sealed
from tests.support.memory_capture import MemoryCapture

NOW = datetime(2026, 11, 1, tzinfo=UTC)
CONTENT = random.Random(1).randbytes(5_000_000)


class Office:
    """What deletes agents of one store; Temporal is a dictionary."""

    def __init__(self, folder: Path, key: bytes = b"") -> None:
        self.store = LocalStore(folder)
        self.runs: dict[str, int] = {"agent": 0}
        self.key = key
        self.engine = self.engine_of(MemoryCapture())
        rewriting = Rewriting(self.store, Catalogue(self.store, PLAIN), PLAIN)
        self.desk = DeletionActivities(self.store, self.engine, rewriting, self._find, key=key)
        self.keeping = KeepingActivities(self.store, self.engine, self._forget, AgentAudit(self.store, Digests()))
        self.env = ActivityEnvironment()

    def engine_of(self, files: MemoryCapture) -> Engine:
        return Engine(self.store, files, bounds=Bounds(borrow=0, offer=0))

    async def _find(self, agent_id: str, agent_uid: str, before: datetime | None) -> dict[str, int]:
        del agent_id, agent_uid, before
        return self.runs

    async def _forget(self, agent_id: str, agent_uid: str, before: datetime | None) -> dict[str, int]:
        del agent_id, agent_uid, before
        return {"agent": 1}

    async def put(self, *keys: str) -> None:
        for key in keys:
            await self.store.put(key, b"secret content")

    async def snapshot(self, uid: str) -> None:
        files = MemoryCapture()
        files.add(Entry(b"file", Kind.FILE), CONTENT)
        engine = self.engine_of(files)
        await engine.claim(agent_uid=uid, generation=1)
        await engine.take("c" + uid, agent_uid=uid, generation=1, number=1, parent=None, progress=lambda _: None)

    async def survey(self, uid: str = "u1", by: str = "ann") -> SurveyResult:
        request = SurveyRequest(agent_id="a", agent_uid=uid, name=uid or "none-1", asked_by=by, asked_at=NOW)
        return await self.env.run(self.desk.survey, request)

    async def purge(self, uid: str = "u1") -> None:
        await self.env.run(self.keeping.purge, PurgeRequest(agent_id="a", agent_uid=uid))

    async def certify(self, uid: str = "u1", by: str = "ann", remnants: tuple[str, ...] = ()) -> CertifyResult:
        request = CertifyRequest(
            agent_id="a",
            agent_uid=uid,
            name=uid or "none-1",
            asked_by=by,
            asked_at=NOW,
            runs={"agent": 2, "forks": 0},
            remnants=remnants,
        )
        return await self.env.run(self.desk.certify, request)

    async def certificate(self, name: str = "u1") -> Certificate:
        return Certificate.model_validate_json(await self.store.get(StoreKeys.certificate(name)))

    async def keys(self, prefix: str = "") -> list[str]:
        return [info.key async for info in self.store.list(prefix)]


@pytest.fixture
def office(tmp_path: Path) -> Office:
    return Office(tmp_path)


async def test_what_was_there_is_counted_and_what_is_there_is_looked_for(office: Office) -> None:
    await office.put(StoreKeys.segment("u1", 0, 0, 0), StoreKeys.upload("u1", "x"), StoreKeys.segment("u2", 0, 0, 0))
    await office.snapshot("u1")
    await office.put("audit/agents/u1/0000000000000001.jsonl")
    assert (await office.survey()).objects == 6
    await office.purge()
    told = await office.certify()

    found = await office.certificate()
    assert (found.agent_id, found.agent_uid, found.asked_by, found.asked_at) == ("a", "u1", "ann", NOW)
    counts = {kind: amount.objects for kind, amount in found.removed.items()}
    # It offered its pack to others: the name is left to the collection.
    assert counts == {"packs": 1, "transcript": 1, "uploads": 1, "manifests": 1, "offers": 1, "snapshot notes": 1}
    assert found.removed["transcript"].bytes == len(b"secret content")
    assert found.runs == {"agent": 2}
    assert {looked.what: looked.found for looked in found.checked} == {
        "agents/u1/": 0,
        "chunks/u1/": 0,
        "runs: agent": 0,
    }
    assert (found.retained.packs, found.pending.packs, told.pending_packs) == ((), 1, 1)
    assert found.pending.bytes < 100 < len(CONTENT) < found.removed["packs"].bytes
    assert (found.rewritten.objects, found.rewritten.bytes) == (1, found.removed["packs"].bytes)
    assert found.retained.audit.objects == 1
    assert AUDIT in found.retained.why
    assert "secret" not in found.model_dump_json()
    assert await office.keys("certificates/") == ["certificates/ids/a/u1", "certificates/u1.json"]
    assert StoreKeys.segment("u2", 0, 0, 0) in await office.keys()


async def test_a_deletion_that_is_begun_anew_says_what_the_first_one_found(office: Office) -> None:
    await office.put(*(StoreKeys.segment("u1", 0, step, 0) for step in range(5)))
    await office.survey()
    await office.store.delete([StoreKeys.segment("u1", 0, step, 0) for step in range(3)])
    # Here it was terminated; somebody else asks again.
    assert (await office.survey(by="bob")).objects == 5
    await office.purge()
    await office.certify(by="bob")
    found = await office.certificate()
    assert (found.removed["transcript"].objects, found.asked_by) == (5, "ann")


async def test_deleted_twice_the_certificate_is_the_same(office: Office) -> None:
    await office.put(StoreKeys.upload("u1", "x"))
    await office.survey()
    await office.purge()
    first = await office.certify()
    data = await office.store.get(first.ref)
    await office.survey(by="bob")
    await office.purge()
    assert await office.certify(by="bob") == first
    assert await office.store.get(first.ref) == data


async def test_an_agent_that_has_nothing_gets_one_and_so_does_one_that_never_ran(office: Office) -> None:
    for uid in ("u1", ""):
        await office.survey(uid)
        await office.certify(uid)
        found = await office.certificate(uid or "none-1")
        assert (found.removed, is_intact(found)) == ({}, True)
    assert await office.keys("agents/") == []


async def test_what_comes_in_late_is_deleted_before_it_is_certified(office: Office) -> None:
    await office.survey()
    await office.purge()
    # A worker that was cut off ends its upload.
    await office.put(StoreKeys.exec_chunk("u1", "e1", "stdout", 0))
    await office.certify()
    assert await office.keys("agents/") == []


async def test_runs_that_are_there_again_keep_it_from_being_certified(office: Office) -> None:
    await office.survey()
    office.runs = {"agent": 1}
    with pytest.raises(SnapshotOvertaken, match="agent"):
        await office.certify()
    assert await office.keys("certificates/u1.json") == []
    office.runs = {"agent": 0}
    await office.certify()


async def test_a_pack_that_another_borrowed_from_is_listed_with_who_needs_it(office: Office) -> None:
    await office.snapshot("u1")
    await office.snapshot("u2")
    await office.survey()
    await office.purge()
    told = await office.certify()
    found = await office.certificate()
    (pack,) = found.retained.packs
    assert await office.keys("agents/u1/snapshots/packs/") == [f"agents/u1/snapshots/packs/{pack.pack}"]
    (borrower,) = pack.needed_by
    assert (borrower.agent_uid, borrower.fork, borrower.bytes) == ("u2", False, len(CONTENT))
    assert borrower.chunks > 10
    assert (told.retained_packs, found.pending.packs) == (1, 0)


async def test_what_sandboxes_left_is_in_it(office: Office) -> None:
    data: dict[str, JsonValue] = {"host_id": "h1", "remnants": ["volumes: v1"]}
    odd: dict[str, JsonValue] = {"host_id": "h1", "remnants": [1, None]}
    events = tuple(
        Event(seq=seq, at=NOW, kind=EventKind.DESTROYED, summary="", data=one) for seq, one in enumerate([odd, data])
    )
    await office.store.put(StoreKeys.events("u1", 1), EVENTS.dump_json(events))
    await office.survey()
    await office.purge()
    await office.certify(remnants=("mounts: /x",))
    assert (await office.certificate()).remnants == ("h1: volumes: v1", "mounts: /x")


async def test_a_host_that_was_gone_when_its_container_was_to_go_is_named(office: Office) -> None:
    lives = [("h1", 1, "sandbox"), ("h1", 2, "sandbox"), ("h1", 2, "destroyed"), ("h2", 3, "sandbox")]
    lives += [("h3", 4, "sandbox"), ("h3", 4, "destroyed"), ("h4", 5, "sandbox")]
    for seq, (host, generation, kind) in enumerate(lives):
        data: dict[str, JsonValue] = {"host_id": host, "generation": generation}
        event = Event(seq=seq, at=NOW, kind=EventKind(kind), summary="", data=data)
        await office.store.put(StoreKeys.events("u1", seq), EVENTS.dump_json((event,)))
    # The deletion itself reached h4, where a terminated agent had left one.
    (told,) = await remnants_of(office.store, "u1", "h4", 5)
    assert told == "h2: nothing is known of the end of the container of generation 3"
    await office.survey()
    await office.certify()
    assert len((await office.certificate()).remnants) == 2


async def test_runs_that_a_worker_deleted_before_it_died_are_counted(office: Office) -> None:
    office.runs = {"agent": 3, "firings": 1}
    await office.survey()
    office.runs = {"agent": 0, "firings": 0}
    # Its second attempt found two, and no firing.
    await office.certify()
    assert (await office.certificate()).runs == {"agent": 3, "firings": 1}


async def test_runs_are_told_by_the_servers_clock_and_not_by_the_askers(office: Office) -> None:
    asked: list[datetime | None] = []

    async def find(agent_id: str, agent_uid: str, before: datetime | None) -> dict[str, int]:
        del agent_id, agent_uid
        asked.append(before)
        return {}

    rewriting = Rewriting(office.store, Catalogue(office.store, PLAIN), PLAIN)
    desk = DeletionActivities(office.store, office.engine, rewriting, find)
    begun = NOW + timedelta(hours=1)
    survey = SurveyRequest(agent_id="a", agent_uid="u1", name="u1", asked_at=NOW, begun_at=begun)
    await office.env.run(desk.survey, survey)
    await office.env.run(desk.certify, CertifyRequest.model_validate(survey.model_dump()))
    assert asked == [begun, begun]


async def test_what_comes_in_while_it_is_looked_who_needs_what_is_deleted_too(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    await office.survey()
    await office.purge()
    rewrite = Rewriting.rewrite

    async def slow(self: Rewriting, agent_uid: str, inherited: Sequence[str], progress: Progress) -> Kept:
        found = await rewrite(self, agent_uid, inherited, progress)
        await office.put(StoreKeys.exec_chunk("u1", "e1", "stdout", 0))
        return found

    monkeypatch.setattr(Rewriting, "rewrite", slow)
    await office.certify()
    assert await office.keys("agents/") == []


async def test_what_comes_in_after_the_certificate_is_deleted_by_the_next_collection(office: Office) -> None:
    for uid in ("u1", ""):
        await office.survey(uid)
        await office.certify(uid)
    # A worker that is cut off from Temporal alone hears of nothing; u2 lives, u3 is still being deleted.
    late = [StoreKeys.segment("u1", 0, 1, 0), StoreKeys.head("u1"), "agents/u1/snapshots/packs/aa"]
    living = [StoreKeys.segment(uid, 0, 1, 0) for uid in ("u2", "u3", "u11")]
    await office.put(*late, *living)
    await office.survey("u3")
    assert await delete_late(office.store, lambda _: None) == 3
    assert await office.keys("agents/") == sorted(living)
    assert await delete_late(office.store, lambda _: None) == 0


async def test_a_changed_certificate_is_found(tmp_path: Path) -> None:
    for key, algorithm in ((b"", "sha256"), (b"k" * 32, "hmac-sha256")):
        folder = tmp_path / algorithm
        folder.mkdir()
        office = Office(folder, key)
        await office.survey()
        await office.certify()
        found = await office.certificate()
        assert found.digest is not None
        assert (found.digest.algorithm, is_intact(found, key or None)) == (algorithm, True)
        forged = found.model_copy(update={"asked_by": "nobody"})
        assert is_intact(forged, key or None) is False
    # Without the key nobody can tell, nor make one anew that holds.
    assert is_intact(found) is None
    assert is_intact(sealed(forged, b"other" * 7), b"k" * 32) is False
