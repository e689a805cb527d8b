"""Forks and rewinds on real servers: exactly a step's files and conversation, nothing copied, nothing lost."""

import asyncio
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from activities.checkpoints import Checkpoints
from activities.snapshots import layout
from activities.snapshots.timing import Timing
from examples.scripted_model import Call, Conversation, Reply, say, shell
from hibernaut._branching import CheckpointMissing, CheckpointPruned
from hibernaut.agent import AgentHandle
from hibernaut.contracts import Retention, Standpoint
from hibernaut.errors import AgentAlreadyExists
from hibernaut.models import Checkpoint
from tests.integration.conftest import Lab, LabFactory
from workers.settings import Settings

GO = "echo a > ~/f ;; echo b > ~/f ;; head -c 3000000 /dev/urandom > ~/big; echo c > ~/f"
"""Steps 0, 1 and 2; the answer is step 3."""
LATER = timedelta(hours=25)
EACH = "rm -rf ~/d; mkdir ~/d; for i in $(seq 40); do echo $i > ~/d/{0}-$i; done; "
"""After it nearly every path is another, so that the snapshot is a full one, and none builds on it."""
SMALL = 60_000
"""Bytes of a conversation and a manifest."""


def obey(seen: Conversation) -> Reply:
    """Run what the message says, step by step, then say what the last step printed."""
    commands = seen.last_user.split(" ;; ")
    done = [entry for entry in seen.turn if isinstance(entry, Call)]
    if len(done) < len(commands):
        return shell(commands[len(done)])
    return say(done[-1].results[0].stdout.strip() or "done")


@pytest.fixture
def ahead(monkeypatch: pytest.MonkeyPatch) -> list[timedelta]:
    """How far ahead the workers' clock is for what is pruned and collected; the last one holds."""
    ahead = [timedelta()]
    monkeypatch.setattr(Settings, "timing", property(lambda _: Timing(now=lambda: datetime.now(UTC) + ahead[-1])))
    return ahead


async def _points(it: Lab, agent: AgentHandle) -> dict[str, Checkpoint]:
    handle = it.temporal.get_workflow_handle(agent.id)
    source = await handle.query("standpoint", result_type=Standpoint)
    return {point.name: point for point in await Checkpoints(it.store).all(source)}


async def _sizes(it: Lab, prefix: str) -> dict[str, int]:
    return {info.key: info.size async for info in it.store.list(prefix)}


async def _say(agent: AgentHandle, text: str) -> str:
    return (await agent.send(text, timeout=90)).text


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_a_fork_has_a_steps_files_and_conversation_and_outlives_its_source(
    own: LabFactory, ahead: list[timedelta]
) -> None:
    async with own(obey) as it:
        agent = await it.start()
        await _say(agent, GO)
        points = await _points(it, agent)
        assert list(points) == ["0:0", "0:1", "0:2", "0:3"]
        before = await _sizes(it, "agents/")
        new_id = f"fork-{uuid4().hex[:8]}"
        new, twin = await asyncio.gather(agent.fork(new_id, 1), agent.fork(new_id, 1))
        assert new.id == twin.id == new_id, "asked for twice at the same time"
        assert (await agent.fork(new.id, 1)).id == new.id, "the same again finds it done"
        with pytest.raises(AgentAlreadyExists):
            await agent.fork(new.id, 0)
        with pytest.raises(AgentAlreadyExists):
            await agent.fork(agent.id)
        with pytest.raises(CheckpointMissing, match="0:3"):
            await agent.fork("never", 7)
        status = await new.status()
        written = {key: size for key, size in (await _sizes(it, "agents/")).items() if key not in before}
        assert [key for key in written if "/packs/" in key] == []
        assert sum(written.values()) < SMALL
        theirs, ours = await it.items(agent), await it.items(new)
        outputs = [item for item in theirs if str(item["type"]).endswith("_output")]
        assert ours == theirs[: theirs.index(outputs[1]) + 1]
        assert (await agent.status()).steps == 4, "the source is as it was"
        assert await _say(new, "cat ~/f; ls ~") == "b\nf"
        (note,) = [item for item in await it.items(new) if "You are a fork" in str(item)]
        assert agent.id in str(note)
        second = await agent.fork(f"fork-{uuid4().hex[:8]}")
        assert await _say(agent, "echo d > ~/f ;; cat ~/f") == "d"
        assert await _say(new, "echo e > ~/f ;; cat ~/f") == "e"
        assert await _say(second, "cat ~/f") == "c"
        total = await _say(agent, "cksum < ~/big")
        assert status.forked_from is not None
        await second.hibernate(timeout=60)
        await asyncio.gather(agent.delete(), new.delete())
        for _ in range(2):
            await it.client.snapshots.collect()
            ahead.append(ahead[-1] + LATER)
        await it.client.snapshots.collect()
        assert (await it.client.snapshots.verify()).sound
        assert await _say(second, "cksum < ~/big") == total
        assert await _say(second, "cat ~/f") == "c"


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_rewound_gone_on_and_rewound_to_the_end_of_the_old_branch(
    own: LabFactory, ahead: list[timedelta]
) -> None:
    async with own(obey) as it:
        agent = await it.start()
        await _say(
            agent, " ;; ".join(EACH.format(step) + part for step, part in zip("abc", GO.split(" ;; "), strict=True))
        )
        total = await _say(agent, "cksum < ~/big")
        uid = (await agent.status()).agent_uid
        status = await agent.rewind(0, timeout=60)
        assert (status.branch, status.steps, status.lease) == (1, 1, None)
        assert await it.containers(agent) == []
        assert await _say(agent, "cat ~/f; ls ~") == "a\nd\nf"
        outputs = [item for item in await it.items(agent) if str(item["type"]).endswith("_output")]
        assert len(outputs) == 2, "that of step 0, and the one just seen"
        assert await _say(agent, EACH.format("z") + "echo y > ~/f ;; cat ~/f") == "y"
        assert await _say(agent, "echo z > ~/f ;; cat ~/f") == "z"
        assert (await agent.snapshots.verify()).sound
        old = (await _points(it, agent))["0:5"]
        status = await agent.rewind(5, branch=0, timeout=60)
        assert status.snapshot is not None
        assert old.snapshot is not None
        assert (status.branch, status.snapshot.number) == (2, old.snapshot.number)
        # Asleep on an old snapshot, the agent needs it, whatever retention says.
        ahead.append(LATER)
        pruned = await agent.snapshots.prune(Retention(last=1))
        assert pruned.removed_count > 0
        assert "in_use" in {one.number: one.rules for one in pruned.kept}[old.snapshot.number]
        points = await _points(it, agent)
        gone = next(point for point in points.values() if not point.kept)
        with pytest.raises(CheckpointPruned, match="nearest"):
            await agent.rewind(gone.step, branch=gone.branch)
        assert await _say(agent, "cat ~/f; cksum < ~/big") == f"c\n{total}"
        assert any("cksum" in str(item) for item in await it.items(agent))
        numbers = [layout.parse_ref(key)[1] for key in await _sizes(it, layout.manifests_prefix(uid))]
        assert len(numbers) == len(set(numbers))
        assert (await agent.snapshots.verify()).sound
