"""Artifacts: published from a real container into a real S3 server, fetched through a real gateway."""

import hashlib
import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import timedelta

import httpx2
import pytest
from pydantic import SecretStr

from activities.transcript import Transcript
from examples.scripted_model import CallSpec, Conversation, Reply, calls, respond, say, shell
from hibernaut import AgentClient
from hibernaut.errors import FileMissing, InvalidRequest
from hibernaut.models import EventKind
from tests.integration.conftest import Lab, LabFactory
from tests.integration.gateway_world import TOKEN, Computer, Snapshots, serving
from workers.gateway import Gateway

CONTENT = b"sum\n42\n"


@asynccontextmanager
async def _gateway(it: Lab) -> AsyncGenerator[AgentClient]:
    gateway = Gateway(
        temporal=it.temporal,
        store=it.store,
        snapshots=Snapshots(),
        sandboxes=Computer(),
        transcript=Transcript(it.store),
        host_id="none",
        token=SecretStr(TOKEN),
        max_upload_bytes=1,
    )
    async with serving(gateway) as url, AgentClient.over(it.temporal, gateway_url=url, gateway_token=TOKEN) as client:
        yield client


def _publish(path: str, **more: str) -> Reply:
    return calls([CallSpec(name="publish", arguments=json.dumps({"path": path, **more}))])


def _errors(conversation: Conversation) -> Reply:
    return say(" | ".join(str(call.error) for call in conversation.calls[-3:]))


@pytest.mark.parametrize("wire", ["responses", "chat"])
async def test_a_file_is_published_listed_downloaded_and_linked(lab: LabFactory, wire: str) -> None:
    script = [
        shell("printf 'sum\\n42\\n' > /root/r.csv; head -c 2000000 /dev/zero > /root/large; mkdir /root/d"),
        _publish("/root/r.csv", name="Bericht ä.csv", description="the sum"),
        _publish("/root/none"),
        _publish("/root/d"),
        _publish("/root/large"),
        respond(_errors),
    ]
    async with lab(script, wire=wire) as it, _gateway(it) as client:
        agent = await it.start(max_artifact_bytes=1_000_000)
        reply = await agent.send("go", timeout=90)
        assert reply.text.count("not published") == 3
        assert "1000000 bytes" in reply.text
        await agent.hibernate(timeout=60)
        (found,) = await client.get(agent.id).artifacts.list()
        assert (found.name, found.description, found.size) == ("Bericht ä.csv", "the sum", len(CONTENT))
        assert found.sha256 == hashlib.sha256(CONTENT).hexdigest()
        artifacts = client.get(agent.id).artifacts
        assert await artifacts.read(found.id) == CONTENT
        link = await artifacts.link(found.id, expires=timedelta(minutes=5))
        async with httpx2.AsyncClient() as browser:
            answer = await browser.get(link.url)
        assert answer.content == CONTENT
        assert "attachment" in answer.headers["content-disposition"]
        for wrong in ("nothing", "..", "../../other/artifacts/x"):
            with pytest.raises(FileMissing):
                await artifacts.read(wrong)
        with pytest.raises(InvalidRequest):
            await artifacts.link(found.id, expires=timedelta(days=8))
        kinds = [event.kind async for event in agent.events(follow=False)]
        assert kinds.count(EventKind.ARTIFACT) == 1
        await agent.close()
        assert await artifacts.read(found.id) == CONTENT
