"""A deleted agent is gone: no byte of it is found in the store or in Temporal, sealed or not; a certificate says so."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
import zstandard
from temporalio.client import Client

from activities.errors import HibernautActivityError
from activities.ports.store import ObjectStore
from activities.snapshots import layout
from activities.snapshots.chain import ChainReader
from activities.snapshots.sealing import FRAME, MAGIC, KeyRing, key_of
from activities.snapshots.timing import Timing
from examples.scripted_model import Call, CallSpec, Conversation, Reply, calls, say, shell
from hibernaut.agent import AgentHandle
from hibernaut.contracts import StoreKeys
from hibernaut.models.deletion import Certificate, Deletion, is_intact
from tests.integration.conftest import Lab, LabFactory
from workers.keys.ring import VARIABLE, keys_from, line
from workers.settings import Settings

FILES = (
    "ln -s / ~/$C; mkdir ~/d; echo $C > ~/d/file; head -c 200000 /dev/urandom > ~/noise; echo $C >> ~/noise; echo $C"
)
LATER = timedelta(hours=25)
Fire = Callable[[Lab, AgentHandle, str], Awaitable[str]]


def canary() -> str:
    return f"canary{uuid4().hex}"


def obey(seen: Conversation) -> Reply:
    """Run the command of a message that has one, publish a file, then say the message again."""
    _, _, command = seen.last_user.partition(" run: ")
    done = [entry for entry in seen.turn if isinstance(entry, Call)]
    if command and not done:
        return shell(command)
    if command and len(done) == 1 and "/d/file" in command:
        return calls([CallSpec(name="publish", arguments=json.dumps({"path": "/root/d/file"}))])
    return say(f"done {seen.last_user[:100]}")


def pieces(data: bytes, keys: KeyRing, key: str) -> list[bytes]:
    """An object as it is, opened where it is sealed, and decompressed wherever it has a zstd frame."""
    found = [data]
    for start in _offsets(data, MAGIC):
        ends = [*_offsets(data[start + 1 :], MAGIC), len(data)]
        sealed = data[start : start + 1 + ends[0]] if len(ends) > 1 else data[start:]
        for context in (FRAME, key.encode(), b"image table"):
            try:
                found.append(keys.open(sealed, context))
            except HibernautActivityError:
                continue
    for piece in list(found):
        for start in _offsets(piece, zstandard.FRAME_HEADER):
            try:
                found.append(zstandard.ZstdDecompressor().decompressobj().decompress(piece[start:]))
            except zstandard.ZstdError:
                continue
    return found


def _offsets(data: bytes, mark: bytes) -> list[int]:
    offsets, at = list[int](), data.find(mark)
    while at >= 0:
        offsets.append(at)
        at = data.find(mark, at + 1)
    return offsets


async def in_store(store: ObjectStore, needle: str, keys: KeyRing) -> set[str]:
    """Keys of objects in which a text is, and those whose names hold it."""
    found: set[str] = set()
    async for info in store.list(""):
        data = await store.get(info.key)
        if needle in info.key or any(needle.encode() in piece for piece in pieces(data, keys, info.key)):
            found.add(info.key)
    return found


async def in_temporal(temporal: Client, needle: str) -> set[str]:
    """Ids of workflows in whose histories, memos and summaries a text is."""
    found: set[str] = set()
    async for run in temporal.list_workflows(""):
        handle = temporal.get_workflow_handle(run.id, run_id=run.run_id)
        texts = [run.raw_info.SerializeToString()]
        texts += [event.SerializeToString() async for event in handle.fetch_history_events()]
        if any(needle.encode() in text for text in texts):
            found.add(run.id)
    return found


async def certificate(store: ObjectStore, done: Deletion) -> Certificate:
    assert done.certificate is not None
    return Certificate.model_validate_json(await store.get(done.certificate))


async def lived(it: Lab, name: str, text: str) -> AgentHandle:
    """An agent that has the text in its files, their names, its output, messages, events and an artifact."""
    agent = await it.start(name)
    await agent.send(f"remember {text} run: C={text}; {FILES}", timeout=90)
    await agent.send(text * 200, timeout=90)
    return agent


@pytest.fixture
def ahead(monkeypatch: pytest.MonkeyPatch) -> list[timedelta]:
    """How far ahead the workers' clock is for what is collected; the last one holds."""
    ahead = [timedelta()]
    monkeypatch.setattr(Settings, "timing", property(lambda _: Timing(now=lambda: datetime.now(UTC) + ahead[-1])))
    return ahead


@pytest.fixture
async def fired(temporal: Client) -> AsyncIterator[Fire]:
    """Makes a schedule that sends an agent a message, and waits for the end of its first firing."""
    made: list[str] = []

    async def fire(it: Lab, agent: AgentHandle, text: str) -> str:
        name = f"jobs-{uuid4().hex[:8]}"
        made.append(name)
        schedule = await it.client.schedules.create(name, cron="0 0 1 1 *", agent=agent.id, message=text)
        await schedule.trigger()
        while True:
            runs = [run async for run in temporal.list_workflows(f"WorkflowId STARTS_WITH 'hibernaut-schedule:{name}'")]
            if runs and runs[0].close_time is not None:
                return runs[0].id
            await asyncio.sleep(0.1)

    yield fire
    for name in made:
        await temporal.get_schedule_handle(f"hibernaut-schedule:{name}").delete()


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("key", ["", line("a", bytes(range(32)))], ids=["plain", "sealed"])
async def test_nothing_of_a_deleted_agent_is_found(own: LabFactory, temporal: Client, key: str, fired: Fire) -> None:
    keys = keys_from({VARIABLE: key} if key else {})
    own.settings = own.settings.model_copy(update={"snapshot_keys": keys})
    text = canary()
    async with own(obey) as it:
        agent = await lived(it, "doomed", text)
        uid = (await agent.status()).agent_uid
        firing = await fired(it, agent, f"by the clock {text}")
        await agent.close(timeout=60)
        before = await in_store(it.store, text, keys)
        kinds = {name.removeprefix(f"agents/{uid}/").split("/")[0] for name in before}
        assert {"transcript", "events", "exec", "artifacts", "snapshots"} <= kinds
        assert any("/packs/" in name for name in before), "the search opens packs"
        assert any("/manifests/" in name for name in before), "and manifests"
        packs = [name async for name in _keys(it.store, layout.packs_prefix(uid))]
        assert {key_of(await it.store.get(pack)) is not None for pack in packs} == {bool(key)}
        assert {agent.id, firing} <= await in_temporal(temporal, text)

        done = await agent.delete(by="the test")

        left = await in_store(it.store, text, keys)
        assert left == set()
        assert [name async for name in _keys(it.store, "agents/")] == []
        assert await in_temporal(temporal, text) == set()
        found = await certificate(it.store, done)
        assert is_intact(found)
        assert (found.agent_id, found.agent_uid, found.asked_by) == (agent.id, uid, "the test")
        assert found.removed["transcript"].objects >= 3
        assert found.removed["artifacts"].objects == 2
        assert found.runs["agent"] >= 1
        assert found.runs["firings"] == 1
        assert {looked.what: looked.found for looked in found.checked}[f"agents/{uid}/"] == 0
        assert not any(looked.found for looked in found.checked)
        assert found.remnants == ()
        assert found.removed["packs"].objects == len(packs)
        assert (found.retained.packs, found.pending.packs) == ((), 0)
        names = {name async for name in _keys(it.store, "")}
        assert StoreKeys.certificate(uid) in names
        assert StoreKeys.certificate_draft(uid) not in names
        assert text not in (await it.store.get(StoreKeys.certificate(uid))).decode()
        # Again, it is the same one.
        assert await agent.delete() == done


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_what_a_living_fork_needs_is_listed_and_goes_with_it(
    own: LabFactory, temporal: Client, ahead: list[timedelta]
) -> None:
    keys = own.settings.snapshot_keys
    text = canary()
    async with own(obey) as it:
        agent = await lived(it, "source", text)
        uid = (await agent.status()).agent_uid
        fork = await agent.fork(f"fork-{uuid4().hex[:8]}")
        fork_uid = (await fork.status()).agent_uid
        # Of this nobody else has a part.
        await agent.send("more run: head -c 300000 /dev/urandom > ~/own", timeout=90)

        done = await agent.delete()

        found = await certificate(it.store, done)
        assert is_intact(found)
        assert found.runs["forks"] == 1, "it had the answers to the last step's calls"
        needed: set[str] = set()
        async for key in _keys(it.store, layout.manifests_prefix(fork_uid)):
            manifest, _ = await ChainReader(it.store, sealer=keys).manifest(key)
            needed |= {pack for pack in manifest.packs if layout.owner_of(pack) == uid}
        assert needed
        assert {layout.packs_prefix(uid) + pack.pack for pack in found.retained.packs} == needed
        assert all([one.agent_uid for one in pack.needed_by] == [fork_uid] for pack in found.retained.packs)
        assert all(one.fork and one.chunks and one.bytes for pack in found.retained.packs for one in pack.needed_by)
        there = {key async for key in _keys(it.store, layout.packs_prefix(uid))}
        assert len(there) == len(needed) + found.pending.packs
        assert found.pending.packs >= 1
        left = {key for key in await in_store(it.store, text, keys) if not key.startswith(f"agents/{fork_uid}/")}
        assert left <= needed, "what is left of it is listed"
        assert await in_temporal(temporal, text) <= {fork.id}
        assert (await fork.send("look run: cat ~/d/file", timeout=90)).text.startswith("done")

        await fork.delete()
        # Condemned, deleted, and then the marker that some were shared.
        for _ in range(2):
            await it.client.snapshots.collect()
            ahead.append(ahead[-1] + LATER)
        for _ in range(2):
            await it.client.snapshots.collect()
        assert await in_store(it.store, text, keys) == set()
        assert [key async for key in _keys(it.store, "agents/")] == []


async def _keys(store: ObjectStore, prefix: str) -> AsyncIterator[str]:
    async for info in store.list(prefix):
        yield info.key
