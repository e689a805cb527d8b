"""Whose a store is: the marker at the top of a prefix, and the owner that a snapshot bears."""

import random
from pathlib import Path

import pytest

from activities.adapters.local_store import LocalStore
from activities.ownership import SnapshotForeign, StoreForeign
from activities.ports.store import ObjectStore
from activities.ports.upkeep import Retention
from activities.snapshots.engine import Engine
from activities.snapshots.entries import Entry, Kind
from activities.snapshots.history import History
from activities.snapshots.sealing import PLAIN, Key, KeyRing
from activities.snapshots.upkeep import StoreUpkeep
from hibernaut._explain import parse_spec
from hibernaut._keyring import NamedKey
from hibernaut.codec import PayloadKeys, key_id
from hibernaut.errors import InvalidSettings, InvalidSpec
from tests.support.memory_capture import MemoryCapture
from workers import owner
from workers.settings import Settings
from workers.wiring import take_audit_store

ONE, TWO = NamedKey("one", bytes(range(32))), NamedKey("two", bytes(range(32, 64)))
NONE = PayloadKeys(())
RING = KeyRing([Key("disk", bytes(range(32)))])
CONTENT = random.Random(7).randbytes(100_000)
REF = "agents/uid/snapshots/manifests/00000001"


def said(_text: object) -> None:
    """Nobody listens."""


@pytest.fixture
def store(tmp_path: Path) -> ObjectStore:
    return LocalStore(tmp_path)


async def take(store: ObjectStore, name: str = "acme", namespace: str = "acme", keys: PayloadKeys = NONE) -> None:
    await owner.take(store, "s3://bucket/acme", name, namespace, keys)


async def test_the_first_one_marks_the_prefix_and_others_of_the_owner_may_use_it(store: ObjectStore) -> None:
    await take(store)
    first = await store.get(owner.KEY)
    await take(store)
    assert await store.get(owner.KEY) == first
    assert owner.Owner.model_validate_json(first) == owner.Owner(owner="acme", namespace="acme")


async def test_an_audit_log_of_its_own_is_one_owners_and_asks_for_no_key_of_payloads(
    store: ObjectStore, tmp_path: Path
) -> None:
    await take(store, keys=PayloadKeys([ONE]))
    audit = {"HIBERNAUT_AUDIT_STORE": f"file://{tmp_path}"}
    env = {"HIBERNAUT_STORE": "s3://bucket/acme", "TEMPORAL_NAMESPACE": "acme"}
    await take_audit_store(Settings.load(env | audit | {"HIBERNAUT_OWNER": "acme"}), store)
    with pytest.raises(StoreForeign, match="HIBERNAUT_AUDIT_STORE to a prefix"):
        await take_audit_store(Settings.load(env | audit | {"HIBERNAUT_OWNER": "rival"}), store)
    await take_audit_store(Settings.load(env | {"HIBERNAUT_OWNER": "rival"}), store)


@pytest.mark.parametrize(
    ("name", "namespace", "wanted"),
    [("rival", "acme", ("'acme'", "'rival'", "HIBERNAUT_OWNER")), ("acme", "other", ("'other'", "TEMPORAL_NAMESPACE"))],
)
async def test_a_worker_of_another_owner_is_refused(
    store: ObjectStore, name: str, namespace: str, wanted: tuple[str, ...]
) -> None:
    await take(store)
    before = await store.get(owner.KEY)
    with pytest.raises(StoreForeign) as caught:
        await take(store, name, namespace)
    assert not caught.value.retryable
    for part in ("s3://bucket/acme", "owner.json", "HIBERNAUT_STORE", *wanted):
        assert part in str(caught.value)
    assert await store.get(owner.KEY) == before


async def test_a_marker_that_cannot_be_read_is_no_free_prefix(store: ObjectStore) -> None:
    await store.put(owner.KEY, b'{"format": "hibernaut-owner/2", "owner": "acme", "namespace": "acme"}')
    with pytest.raises(StoreForeign, match="no marker"):
        await take(store)


async def test_a_worker_that_lacks_a_key_does_not_start(store: ObjectStore) -> None:
    await take(store)
    await take(store, keys=PayloadKeys([ONE]))
    await take(store, keys=PayloadKeys([TWO, ONE]))
    for lacking in (NONE, PayloadKeys([TWO])):
        with pytest.raises(StoreForeign) as caught:
            await take(store, keys=lacking)
        assert key_id(ONE.secret) in str(caught.value)
        assert "HIBERNAUT_PAYLOAD_KEYS_FILE" in str(caught.value)
    assert await owner.retire(store, "s3://bucket/acme", key_id(ONE.secret))
    assert not await owner.retire(store, "s3://bucket/acme", key_id(ONE.secret))
    await take(store, keys=PayloadKeys([TWO]))


async def test_a_key_that_only_opens_is_not_noted(store: ObjectStore) -> None:
    await take(store, keys=PayloadKeys([ONE], sealing=False))
    await take(store)


def test_the_owner_is_the_settings_own() -> None:
    env = {"HIBERNAUT_STORE": "file:///tmp/store", "TEMPORAL_NAMESPACE": "acme"}
    assert Settings.load(env).owner == "acme"
    assert Settings.load(env | {"HIBERNAUT_OWNER": "acme-inc"}).sealer.owner == "acme-inc"
    assert Settings.load({"HIBERNAUT_STORE": "file:///tmp/store"}).owner == "hibernaut"
    with pytest.raises(InvalidSettings, match="HIBERNAUT_OWNER: must be 1 to 200"):
        Settings.load(env | {"HIBERNAUT_OWNER": "a/b"})


@pytest.mark.parametrize("field", ["owner", "namespace", "store"])
def test_no_spec_names_an_owner(field: str) -> None:
    with pytest.raises(InvalidSpec, match=f"{field}: there is no such field"):
        parse_spec({"model": "m", field: "rival"})
    with pytest.raises(InvalidSpec, match=f"sandbox.{field}: there is no such field"):
        parse_spec({"model": "m", "sandbox": {field: "rival"}})


def engine(store: ObjectStore, sealer: KeyRing) -> Engine:
    files = MemoryCapture()
    files.add(Entry(b"name", Kind.FILE), CONTENT)
    return Engine(store, files, sealer=sealer)


async def taken(store: ObjectStore, sealer: KeyRing) -> None:
    one = engine(store, sealer)
    await one.claim(agent_uid="uid", generation=1)
    await one.take("container", agent_uid="uid", generation=1, number=1, parent=None, progress=said)


async def read(store: ObjectStore, sealer: KeyRing) -> bytes:
    return b"".join([piece async for piece in engine(store, sealer).open_file(REF, "/name")])


@pytest.mark.parametrize("ring", [PLAIN, RING], ids=["plain", "sealed"])
async def test_a_snapshot_that_was_copied_to_another_owner_is_refused(store: ObjectStore, ring: KeyRing) -> None:
    await taken(store, ring.of("acme"))
    assert await read(store, ring.of("acme")) == CONTENT
    rival = ring.of("rival")
    with pytest.raises(SnapshotForeign, match=r"'acme'.*'rival'") as caught:
        await read(store, rival)
    assert not caught.value.retryable
    files = engine(store, rival)
    with pytest.raises(SnapshotForeign):
        await files.restore("other", agent_uid="uid", generation=2, ref=REF, progress=said)
    with pytest.raises(SnapshotForeign):
        await files.fork(REF, agent_uid="mine", generation=1)
    with pytest.raises(SnapshotForeign):
        await files.take("other", agent_uid="uid", generation=2, number=2, parent=REF, progress=said)
    (row,) = (await History(store, sealer=rival).page("uid", newest=REF)).snapshots
    assert "belongs to the owner 'acme'" in row.damage
    keeper = StoreUpkeep(store, sealer=rival)
    assert "belongs to the owner 'acme'" in (await keeper.verify("uid")).damage[0].detail
    with pytest.raises(SnapshotForeign):
        await keeper.prune("uid", Retention(last=1))
    assert await store.head(REF) is not None


async def test_snapshots_of_older_releases_are_read(store: ObjectStore) -> None:
    await taken(store, PLAIN)
    assert await read(store, PLAIN.of("acme")) == CONTENT
