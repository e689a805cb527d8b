"""What a spec and the settings say of snapshots, on real servers, from the spec to the object store."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from activities.errors import SnapshotSealed
from activities.snapshots.history import History
from activities.snapshots.sealing import PLAIN, Key, KeyRing, key_of
from examples.scripted_model import Conversation, Reply, respond, say, shell
from hibernaut.models import AgentState, EventKind
from tests.integration.conftest import LabFactory
from workers import wiring

if TYPE_CHECKING:
    from activities.ports.store import ObjectStore

RING = KeyRing([Key("test", bytes(range(32)))])


def _tell(conversation: Conversation) -> Reply:
    return say("".join(result.stdout for result in conversation.calls[-1].results).strip())


@pytest.fixture
def sealing(lab: LabFactory) -> LabFactory:
    """The same with a key."""
    settings = lab.settings.model_copy(update={"snapshot_keys": RING})
    return LabFactory(settings, lab.temporal, lab.store)


async def _objects(store: ObjectStore, prefix: str) -> dict[str, bytes]:
    return {info.key: await store.get(info.key) async for info in store.list(prefix)}


async def test_sealed_and_left_out(sealing: LabFactory) -> None:
    script = [
        shell("mkdir -p /srv/telling-name && seq 1000 >/srv/telling-name/numbers && echo no >/tmp/no && cd /srv"),
        say("stored"),
        shell("tail -n 1 telling-name/numbers; ls -A /tmp | wc -l; pwd"),
        respond(_tell),
    ]
    async with sealing(script) as it:
        agent = await it.start(sandbox={"snapshots": {"exclude": ["/tmp"], "compression": 5}})
        await agent.send("store", timeout=60)
        await agent.hibernate(timeout=60)
        status = await agent.status()
        assert status.snapshot is not None
        found = await _objects(it.store, f"agents/{status.agent_uid}/snapshots/")
        assert any("/packs/" in key for key in found)
        for key, data in found.items():
            assert b"telling-name" not in data
            if "/packs/" in key or "/manifests/" in key:
                assert key_of(data) == RING.key_id
        assert (await agent.send("read", timeout=60)).text.split() == ["1000", "0", "/srv"]
        # What the gateway answers with.
        engine = wiring.snapshot_engine(it.settings, it.store, it.daemon)
        assert len(await engine.list_files(status.snapshot.ref, "/srv/telling-name")) == 1
        assert await engine.list_files(status.snapshot.ref, "/tmp") == []
        with pytest.raises(SnapshotSealed):
            await History(it.store, sealer=PLAIN).parent(status.snapshot.ref)
        described = json.dumps(
            [str(event) async for event in it.temporal.get_workflow_handle(agent.id).fetch_history_events()]
        )
        assert bytes(range(32)).hex() not in described
        await agent.close()


async def test_a_limit_is_told_and_the_model_makes_room(lab: LabFactory) -> None:
    def make_room(conversation: Conversation) -> Reply:
        (result,) = conversation.calls[-1].results
        noted = "/srv/data 3.1 MB" in conversation.notes[-1] and "max_bytes" in conversation.notes[-1]
        return shell("rm /srv/data/big; ls /srv") if result.exit_code == 253 and noted else say("unexpected")

    script = [
        shell("mkdir -p /srv/data; head -c 3M /dev/urandom >/srv/data/big"),
        shell("echo held back >/srv/never"),
        respond(make_room),
        respond(_tell),
    ]
    async with lab(script) as it:
        agent = await it.start(sandbox={"snapshots": {"max_bytes": 1 << 20}})
        assert (await agent.send("fill", timeout=60)).text == "data"
        status = await agent.status()
        assert status.snapshot is not None
        assert status.snapshot.bytes_total < 1 << 20
        assert status.state is AgentState.IDLE
        kinds = [event.kind async for event in agent.events(follow=False)]
        assert EventKind.SNAPSHOT_REFUSED in kinds
        found = await _objects(it.store, f"agents/{status.agent_uid}/snapshots/packs/")
        assert sum(map(len, found.values())) < 1 << 20
        await agent.close()
