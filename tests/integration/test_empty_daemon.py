"""A wake on a Docker daemon that has nothing at all: the bucket suffices, and the key where it is sealed."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from uuid import uuid4

import pytest
from temporalio.client import Client
from temporalio.testing import ActivityEnvironment

from activities.adapters.docker_captures import DockerCaptures
from activities.adapters.docker_client import Daemon
from activities.adapters.docker_images import DockerImages
from activities.images import ImageActivities, is_kept
from activities.ports.store import ObjectStore
from activities.snapshots.engine import Engine
from activities.snapshots.sealing import key_of
from examples.scripted_model import Conversation, Reply, ScriptedModel, respond, say, shell
from hibernaut import AgentClient, AgentSpec
from hibernaut.contracts import KeepImageRequest, LoadImageRequest
from hibernaut.models.spec import DEFAULT_IMAGE
from tests.chaos.link import Link
from tests.integration.test_two_hosts import TwoHosts
from tests.support.boxes import Boxes, assert_same_changes
from tests.support.dockerd import SecondDockerd
from tests.support.images import RING
from workers import wiring
from workers.devstack.stack import DevStack
from workers.settings import Settings

pytestmark = pytest.mark.slow

WORK = """
mkdir -p /root/project/deep && cd /root/project
git init -q . && echo one > one && git add one
git -c user.name=a -c user.email=a@example.com commit -q -m one
head -c 3000000 /dev/urandom > deep/large
ln one deep/linked; ln -s ../one deep/symbolic; mkfifo deep/fifo
chmod 4751 deep/large; chown -R agent:agent deep
rm /etc/debian_version; rm -r /usr/share/doc/git; echo changed >> /etc/profile
"""


@pytest.fixture
async def second() -> AsyncIterator[SecondDockerd]:
    # A short path: sockets lie in it.
    with tempfile.TemporaryDirectory(prefix="hib-") as home:
        async with SecondDockerd(Path(home)) as daemon:
            yield daemon


@pytest.fixture
async def bucket(settings: Settings) -> AsyncIterator[ObjectStore]:
    """A part of the bucket in which there is nothing yet."""
    opened = wiring.open_store(settings.model_copy(update={"store": f"{settings.store}/empty-{uuid4().hex[:6]}"}))
    yield opened
    await opened.close()


def _images(second: SecondDockerd) -> list[str]:
    with contextlib.closing(second.client()) as client:
        return [str(one.id) for one in client.images.list(all=True)]


async def test_a_snapshot_is_restored_where_there_is_nothing(
    bucket: ObjectStore, second: SecondDockerd, tmp_path: Path
) -> None:
    uid, run = f"agent-{uuid4().hex[:6]}", ActivityEnvironment().run
    with contextlib.closing(Boxes()) as boxes:
        engine = Engine(bucket, DockerCaptures(boxes.daemon), spool=tmp_path, sealer=RING)
        source = boxes.make()
        await engine.prepare(source.id, agent_uid=uid, generation=1)
        fresh = source.look()
        source.sh(WORK)
        taken = await engine.take(
            source.id, agent_uid=uid, generation=1, number=1, parent=None, progress=lambda _text: None
        )
        first = ImageActivities("first", DockerImages(boxes.daemon), bucket, RING)
        kept = await run(first.keep, KeepImageRequest(image_id=source.image_id, image=DEFAULT_IMAGE))
        assert kept.bytes_stored > 0
        expected = source.look()
        assert key_of(await bucket.get(kept.ref)) == key_of(await bucket.get(taken.ref)) == RING.key_id

    assert _images(second) == []
    with contextlib.closing(Boxes(Daemon(second.host))) as boxes:
        other = ImageActivities("second", DockerImages(boxes.daemon), bucket, RING)
        loaded = await run(other.load, LoadImageRequest(image_id=taken.image_id))
        assert 0 < loaded.bytes < kept.bytes_stored
        assert taken.image_id in _images(second)
        engine = Engine(bucket, DockerCaptures(boxes.daemon), spool=tmp_path, sealer=RING)
        copy = boxes.make(image=taken.image_id)
        await engine.prepare(copy.id, agent_uid=uid, generation=2)
        done = await engine.restore(copy.id, agent_uid=uid, generation=2, ref=taken.ref, progress=lambda _text: None)
        assert (done.restored, done.reason) == (taken.ref, None)
        assert_same_changes(fresh, expected, copy.look())
        # The image too is as it was: nothing differs but what the snapshot brought.
        copy.sh("cd /root/project && git fsck --strict && git status --porcelain && dpkg --verify coreutils")
    print(f"kept {kept.bytes_stored} B in {kept.duration_ms} ms, loaded {loaded.bytes} B in {loaded.duration_ms} ms")


def _look(conversation: Conversation) -> Reply:
    del conversation
    return shell("cat /root/precious; test -e /etc/debian_version || echo still gone; python3 -c 'print(6 * 7)'")


def _tell(conversation: Conversation) -> Reply:
    return say(conversation.calls[-1].results[0].stdout)


async def test_an_agent_wakes_on_a_host_that_has_nothing(
    stack: DevStack, temporal: Client, store: ObjectStore, tmp_path: Path, second: SecondDockerd
) -> None:
    hosts = TwoHosts(stack, temporal, store, tmp_path, second)
    script = [
        shell("echo precious > /root/precious; rm /etc/debian_version"),
        say("done"),
        respond(_look),
        respond(_tell),
    ]
    async with AsyncExitStack() as parts:
        hosts.model = await parts.enter_async_context(ScriptedModel(script))
        link = await parts.enter_async_context(Link(stack.ports.temporal))
        agents = AgentClient.over(temporal)
        async with hosts.first(link) as host_a:
            agent = await agents.start(f"empty-{uuid4().hex[:6]}", AgentSpec(model="scripted"))
            assert (await agent.send("work", timeout=100)).text == "done"
            lease = (await agent.status()).lease
            assert lease is not None
            assert lease.host_id == host_a.id
            for _ in range(600):
                if await is_kept(store, lease.image_id):
                    break
                await asyncio.sleep(0.1)
            await agent.hibernate(timeout=60)
        assert _images(second) == []
        host_b = await parts.enter_async_context(hosts.other())
        reply = await agent.send("what is left?", timeout=110)
        assert reply.text == "precious\nstill gone\n42\n"
        status = await agent.status()
        assert status.lease is not None
        assert (status.lease.host_id, status.lease.image_id) == (host_b.id, lease.image_id)
        assert lease.image_id in _images(second)
        await agent.close(timeout=60)
