"""Checkpoints, forks and rewinds on the command line: real workflows, engine, gateway and processes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from temporalio import activity
from temporalio.testing import WorkflowEnvironment

from activities.checkpoints import Checkpoints
from activities.forking import BranchActivities
from activities.snapshots import layout
from activities.transcript import Segment, Transcript
from hibernaut import contracts as c
from hibernaut.errors import AgentAlreadyExists
from hibernaut.models import AgentSpec, AgentStatus, EventKind
from tests.integration.command_line import Shell
from tests.integration.gateway_world import World, gateway_world
from tests.integration.snapshot_lives import Life
from tests.support.scripted_agents import working


class Remembered(Life):
    """A life whose conversation is kept too."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.transcript = Transcript(self.store)
        branches = BranchActivities(self.transcript, self.engine)
        self.more = [Checkpoints(self.store).find, branches.fork, branches.rewind]

    def activities(self) -> list[Callable[..., Any]]:
        return [one for one in super().activities() if one != self.model_call] + [self.kept_call]

    @activity.defn(name=c.MODEL_CALL.name)
    async def kept_call(self, request: c.ModelRequest) -> c.ModelReply:
        reply = await self.model_call(request)
        said = [item.text for item in request.new_items if isinstance(item, c.UserMessage | c.Note)]
        segment = Segment.model_validate(
            {
                **request.model_dump(include={"agent_uid", "branch", "step", "ordinal", "provider", "model"}),
                "previous": request.transcript_ref,
                "request_digest": "",
                "new_items": [{"type": "message", "role": "user", "content": text} for text in said],
                "reply_items": [],
                "text": reply.text_head,
                "refusal": False,
                "tool_calls": reply.tool_calls,
                "usage": reply.usage,
                "response_id": None,
                "created_at": datetime.now(UTC),
                "duration_ms": 0,
            }
        )
        await self.transcript.keep(segment)
        return reply


@pytest.fixture
def life(tmp_path: Path) -> Remembered:
    return Remembered(tmp_path / "store")


@pytest.fixture
async def world(agents_server: WorkflowEnvironment, life: Remembered, tmp_path: Path) -> AsyncIterator[World]:
    client = agents_server.client
    async with working(client, life), gateway_world(client, life, tmp_path / "store") as one:
        yield one


@pytest.fixture
def cli(world: World, tmp_path: Path) -> Shell:
    return Shell(world, tmp_path)


@pytest.mark.slow
async def test_steps_are_listed_forked_and_gone_back_to(cli: Shell, life: Remembered) -> None:
    agent = await cli.world.agents.start(cli.name, AgentSpec(model="scripted"))
    empty = await cli("checkpoints", cli.name)
    assert (empty.code, empty.out) == (0, "")
    assert "finished no step" in empty.err
    early = await cli("fork", cli.name, "new")
    assert early.code == 3
    assert "no finished step" in early.err
    for turn in ("run a=1", "run a=22", "run a=333"):
        await agent.send(turn, timeout=30)

    listed = await cli("checkpoints", cli.name)
    assert listed.code == 0, listed.err
    rows = [line.split() for line in listed.out.splitlines()]
    assert rows[0] == ["STEP", "TURN", "TIME", "SNAPSHOT", "FILES", "SIZE", "WHAT"]
    assert [(row[0], row[1], row[4]) for row in rows[1:]] == [
        *(("0:0", "1", "1"), ("0:1", "1", "1"), ("0:2", "2", "2")),
        *(("0:3", "2", "2"), ("0:4", "3", "3"), ("0:5", "3", "3")),
    ]
    assert listed.out.splitlines()[1].endswith("$ a=1")
    points = json.loads((await cli("checkpoints", cli.name, "-o", "json")).out)
    assert [(one["step"], one["kept"], one["snapshot"]["number"]) for one in points[:3]] == [
        *((0, True, 1), (1, True, 1), (2, True, 2)),
    ]

    forked = await cli("fork", cli.name, f"{cli.name}-new", "--step", "1")
    assert (forked.code, forked.out) == (0, f"Agent {cli.name}-new is a fork of {cli.name} at step 0:1.\n"), forked.err
    again = await cli("fork", cli.name, cli.name)
    assert again.code == 1
    assert "already" in again.err
    told = json.loads((await cli("status", f"{cli.name}-new", "-o", "json")).out)
    assert (told["forked_from"]["agent_id"], told["snapshot"]["number"]) == (cli.name, 1)

    back = await cli("rewind", cli.name, "--step", "0:3")
    assert (back.code, back.out) == (0, f"Agent {cli.name} is back at step 3; it goes on as branch 1.\n"), back.err
    events = [event async for event in agent.events(follow=False)]
    assert "rewound to step 0:3" in events[-1].summary
    assert [line.split()[0] for line in (await cli("checkpoints", cli.name)).out.splitlines()][-1] == "1:3"
    assert (await agent.send("hello", timeout=30)).text == "you said hello"

    uid = (await agent.status()).agent_uid
    await life.store.delete([layout.manifest_key(uid, 1)])
    assert " 1 pruned " in (await cli("checkpoints", cli.name)).out
    gone = await cli("rewind", cli.name, "--step", "0", "-o", "json")
    assert gone.code == 1
    assert json.loads(gone.err)["code"] == "checkpoint_pruned"
    assert (await cli("rewind", cli.name, "--step", "77")).code == 3
    assert (await cli("rewind", cli.name, "--step", "last")).code == 2
    assert (await cli("rewind", "nobody", "--step", "1")).code == 3
    life.gate.clear()
    await agent.post("hold")
    while (await agent.status()).current_message_id is None:
        await asyncio.sleep(0.02)
    busy = await cli("rewind", cli.name, "--step", "4")
    assert busy.code == 1
    assert "--interrupt" in busy.err
    done = await cli("rewind", cli.name, "--step", "4", "--interrupt", "--discard", "-o", "json")
    assert json.loads(done.out)["branch"] == 2, done.err
    events = [event async for event in agent.events(follow=False)]
    assert "was not kept, as asked" in events[-1].summary


@pytest.mark.slow
async def test_a_fork_that_is_there_is_told_apart_by_where_its_step_lies(world: World, life: Remembered) -> None:
    del life
    agent = await world.agents.start(f"agent-{uuid4().hex[:8]}", AgentSpec(model="scripted"))
    for turn in ("run a=1", "run a=22"):
        await agent.send(turn, timeout=30)
    first = await agent.fork(f"{agent.id}-first", 0)
    await agent.rewind(1)
    assert (await agent.fork(first.id, 0)).id == first.id, "step 0 of branch 1 is that of branch 0: it grew from there"
    with pytest.raises(AgentAlreadyExists):
        await agent.fork(first.id, 1)
    second = await agent.fork(f"{agent.id}-second")
    origin = (await second.status()).forked_from
    assert origin is not None
    assert origin.name == "1:1"
    assert (await agent.fork(second.id, 1)).id == second.id
    with pytest.raises(AgentAlreadyExists):
        await agent.fork(second.id, 1, branch=0)


@pytest.mark.slow
async def test_two_forks_into_one_id_at_once_are_not_taken_for_one(world: World, life: Remembered) -> None:
    del life
    agent = await world.agents.start(f"agent-{uuid4().hex[:8]}", AgentSpec(model="scripted"))
    for turn in ("run a=1", "run a=22"):
        await agent.send(turn, timeout=30)
    await agent.rewind(1)
    new_id = f"{agent.id}-new"
    asked = [agent.fork(new_id, 1, branch=branch) for branch in (0, 1)]
    ended = await asyncio.gather(*asked, return_exceptions=True)
    assert sorted(type(one).__name__ for one in ended) == ["AgentAlreadyExists", "AgentHandle"]


async def test_each_of_two_rewinds_hears_of_its_own_end(world: World, life: Remembered) -> None:
    del life
    agent = await world.agents.start(f"agent-{uuid4().hex[:8]}", AgentSpec(model="scripted"))
    for turn in ("run a=1", "run a=22"):
        await agent.send(turn, timeout=30)
    ended = await asyncio.gather(*(agent.rewind(step) for step in (0, 1)), return_exceptions=True)
    assert [str(one) for one in ended if isinstance(one, BaseException) and "another rewind" not in str(one)] == []
    gone_back = [event.data["step"] async for event in agent.events(follow=False) if event.kind is EventKind.REWOUND]
    assert sorted(gone_back, key=str) == [step for step in (0, 1) if isinstance(ended[step], AgentStatus)]
    assert gone_back
