"""The gateway over HTTP: real server, real workflow, real store."""

import asyncio
import json
from datetime import UTC, datetime

import httpx2
import pytest

from activities.transcript import Segment
from hibernaut import errors
from hibernaut.agent import AgentHandle
from hibernaut.client import AgentClient
from hibernaut.contracts import StoreKeys
from hibernaut.models import EventKind, Usage
from tests.integration.gateway_world import TOKEN, World, body


async def test_only_health_is_open(world: World, agent: AgentHandle) -> None:
    async with httpx2.AsyncClient(base_url=world.url, trust_env=False) as stranger:
        assert body(await stranger.get("/healthz"), 200)["status"] == "ok"
        for header in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Basic {TOKEN}"}):
            for path in (f"/v1/agents/{agent.id}/files", "/v1/none", "/"):
                answer = await stranger.get(path, headers=header)
                assert body(answer, 401)["code"] == "unauthorized"
                assert answer.headers["www-authenticate"] == "Bearer"
    wrong = AgentClient.over(world.agents.temporal, gateway_url=world.url, gateway_token="wrong")
    async with wrong:
        with pytest.raises(errors.GatewayRefused, match="HIBERNAUT_GATEWAY_TOKEN"):
            await wrong.get(agent.id).files.read("/x")


async def test_unknown_agents_and_routes(world: World) -> None:
    for path in (
        "files",
        "files/content?path=/x",
        "events",
        "transcript",
        "answers/m",
        "exec",
        "exec/e",
        "exec/e-i0/stdout",
    ):
        answer = await world.http.get(f"/v1/agents/nobody/{path}")
        assert body(answer, 404)["code"] == "agent_not_found"
        assert body(await world.http.get(f"/v1/agents/no%20id/{path}"), 422)["code"] == "invalid_agent_id"
    assert body(await world.http.get("/v1/agents/x/nothing"), 404)["code"] == "no_route"
    assert body(await world.http.post("/v1/agents/x/files"), 405)["code"] == "no_route"


@pytest.mark.slow
async def test_events_come_from_the_store_and_the_workflow_without_gap(world: World, agent: AgentHandle) -> None:
    for number in range(26):
        await agent.send(f"n{number}")
        if number % 6 == 5:
            # Going to sleep writes the events to the store and keeps the tail alone.
            await agent.hibernate(timeout=20)
    last = (await agent.status()).last_event
    stored = [info async for info in world.store.list("agents/")]
    assert len([info for info in stored if "/events/" in info.key]) > 2
    for since in (0, 1, 50, last - 1, last):
        numbers = [event.seq async for event in agent.events(since, follow=False)]
        assert numbers == list(range(since + 1, last + 1)), since
    answer = await world.http.get(f"/v1/agents/{agent.id}/events?since=3")
    assert [json.loads(line)["seq"] for line in answer.text.splitlines()] == list(range(4, last + 1))


async def test_a_segment_that_is_missing_breaks_the_stream(world: World, agent: AgentHandle) -> None:
    for number in range(14):
        await agent.send(f"n{number}")
        if number % 6 == 5:
            await agent.hibernate(timeout=20)
    uid = (await agent.status()).agent_uid
    keys = [info.key async for info in world.store.list(f"agents/{uid}/events/")]
    await world.store.delete(keys[:1])
    with pytest.raises(errors.GatewayFailed, match="lacks event 1"):
        _ = [event async for event in agent.events(follow=False)]


async def test_events_are_followed_live_until_the_agent_closes(world: World, agent: AgentHandle) -> None:
    kinds: list[str] = []

    async def follow() -> None:
        async with world.http.stream("GET", f"/v1/agents/{agent.id}/events?follow=true") as answer:
            kinds.extend([json.loads(line)["kind"] async for line in answer.aiter_lines() if line.strip()])

    following = asyncio.create_task(follow())
    await agent.send("x")
    await agent.close(timeout=20)
    await asyncio.wait_for(following, 15)
    assert EventKind.TURN_FINISHED in kinds
    assert kinds[-1] == EventKind.CLOSED


@pytest.mark.parametrize("query", ["since=x", "since=-1", "follow=perhaps"])
async def test_event_parameters_are_checked(world: World, agent: AgentHandle, query: str) -> None:
    assert body(await world.http.get(f"/v1/agents/{agent.id}/events?{query}"), 422)["code"] == "invalid_request"


def segment(uid: str, step: int, text: str, previous: str | None) -> Segment:
    return Segment(
        agent_uid=uid,
        branch=0,
        step=step,
        ordinal=0,
        previous=previous,
        request_digest="d",
        new_items=({"type": "message", "role": "user", "content": f"question {step}"},),
        reply_items=({"type": "message", "role": "assistant", "content": text},),
        text=text,
        refusal=False,
        tool_calls=(),
        usage=Usage(),
        provider="default",
        model="scripted",
        response_id=None,
        created_at=datetime.now(UTC),
        duration_ms=1,
    )


async def keep_segments(world: World, uid: str, texts: list[str]) -> None:
    """What the real model activity would have written for these steps."""
    previous = None
    for step, text in enumerate(texts):
        one = segment(uid, step, text, previous)
        previous = StoreKeys.segment(uid, 0, step, 0)
        await world.store.put(previous, one.model_dump_json().encode())


async def test_a_long_answer_is_fetched_whole(world: World, agent: AgentHandle) -> None:
    uid = (await agent.status()).agent_uid
    whole = "a long answer " * 10_000
    await keep_segments(world, uid, ["first", whole, "third"])
    await agent.send("one")
    reply = asyncio.create_task(agent.send("long", message_id="m-long"))
    assert (await reply).text == whole
    await agent.send("three")
    answer = await world.http.get(f"/v1/agents/{agent.id}/answers/m-long")
    assert body(answer, 200)["text"] == whole


async def test_an_answer_forgotten_by_the_workflow_is_recalled(world: World, agent: AgentHandle) -> None:
    uid = (await agent.status()).agent_uid
    await keep_segments(world, uid, [f"answer {number}" for number in range(40)])
    for number in range(40):
        await agent.send(f"n{number}", message_id=f"m{number}")
    answer = body(await world.http.get(f"/v1/agents/{agent.id}/answers/m1"), 200)
    assert (answer["text"], answer["state"], answer["turn"]) == ("answer 1", "done", 2)
    unknown = await world.http.get(f"/v1/agents/{agent.id}/answers/never")
    assert body(unknown, 404)["code"] == "message_unknown"


async def test_the_transcript_is_told_in_order(world: World, agent: AgentHandle) -> None:
    assert (await world.http.get(f"/v1/agents/{agent.id}/transcript")).text == ""
    uid = (await agent.status()).agent_uid
    await keep_segments(world, uid, ["one", "two"])
    await agent.send("x")
    await agent.send("y")
    answer = await world.http.get(f"/v1/agents/{agent.id}/transcript")
    assert [json.loads(line)["content"] for line in answer.text.splitlines()] == [
        "question 0",
        "one",
        "question 1",
        "two",
    ]


async def test_a_gateway_that_is_away_is_named(world: World, agent: AgentHandle, unused_tcp_port: int) -> None:
    url = f"http://127.0.0.1:{unused_tcp_port}"
    away = AgentClient.over(world.agents.temporal, gateway_url=url, gateway_token=TOKEN)
    async with away:
        with pytest.raises(errors.GatewayUnreachable, match=url):
            await away.get(agent.id).files.read("/x")
