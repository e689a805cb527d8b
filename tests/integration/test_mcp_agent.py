"""Tools of MCP servers on the real engine: offered, called, called wrongly, and without secrets."""

import json
import logging
import sys
from pathlib import Path

import pytest

from activities.mcp_pool import McpPool
from activities.mcp_settings import load_servers
from examples.scripted_model import CallSpec, Conversation, Reply, calls, respond, say
from hibernaut.errors import AgentPaused
from tests.integration.conftest import Lab, LabFactory

pytestmark = pytest.mark.slow

SECRET = "s3cr3t-of-the-server"


def _ask(tool: str, **arguments: object) -> Reply:
    return calls([CallSpec(name=tool, arguments=json.dumps(arguments))])


def _told(conversation: Conversation) -> Reply:
    return say(" | ".join(str(call.error) for call in conversation.calls))


@pytest.fixture
def pool(tmp_path: Path) -> McpPool:
    command = [sys.executable, "-m", "tests.support.mcp_server", "stdio"]
    env = {"TOKEN": {"from_env": "THE_TOKEN"}, "MCP_TEST_CALLS": str(tmp_path / "noted")}
    servers = {
        "desk": {"command": command, "cwd": str(Path(__file__).parents[2]), "env": env, "log": str(tmp_path / "log")},
        "gone": {"command": ["false"], "start_timeout_s": 5},
    }
    path = tmp_path / "servers.yaml"
    path.write_text(json.dumps({"servers": servers}))
    return McpPool(load_servers({"HIBERNAUT_MCP_SERVERS": str(path), "THE_TOKEN": SECRET}))


async def _history(it: Lab, agent_id: str) -> bytes:
    events = (await it.temporal.get_workflow_handle(agent_id).fetch_history()).events
    return b"".join(event.SerializeToString() for event in events)


async def test_an_agent_uses_the_tools_of_a_server(
    lab: LabFactory, pool: McpPool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    script = [
        _ask("desk__add", numbers=[1, 2]),
        _ask("desk__add", numbers="many"),
        _ask("desk__refuse", why="no"),
        _ask("desk__environment", name="TOKEN"),
        _ask("desk__draw"),
        _ask("desk__crash"),
        _ask("desk__greet", name="ada"),
        respond(_told),
    ]
    spec = {"server": "desk", "tools": ["add", "refuse", "environment", "crash", "greet"], "retry_safe": ["greet"]}
    with caplog.at_level(logging.INFO):
        async with lab(script, mcp=pool) as it:
            agent = await it.start(mcp=[spec, {"server": "gone"}])
            reply = await agent.send("go", timeout=90)
            assert "The arguments of the tool desk__add are invalid" in reply.text
            assert "I refuse: no" in reply.text
            # Not among the tools that the spec allows.
            assert "desk__draw" in reply.text
            assert "may or may not have taken effect" in reply.text
            items = await it.items(agent)
            outputs = [json.loads(str(item["output"])) for item in items if "output" in item]
            assert outputs[0] == {"total": 3, "of": [1, 2]}
            assert outputs[3] == "[redacted]"
            assert outputs[-1] == "hello ada"
            notes = [text for item in items if "MCP server gone" in (text := json.dumps(item))]
            assert len(notes) == 1
            history = await _history(it, agent.id)
            assert b"desk__add" in history
            kept = [await it.store.get(found.key) async for found in it.store.list("")]
            await agent.close()
    noted = (tmp_path / "noted").read_text().splitlines()
    assert [noted.count(one) for one in ("add", "refuse", "crash", "greet ada")] == [1, 1, 1, 1]
    assert SECRET.encode() not in history
    assert not any(SECRET.encode() in content for content in kept)
    assert SECRET not in caplog.text


async def test_a_server_that_the_worker_does_not_know_pauses_the_agent(lab: LabFactory) -> None:
    async with lab([say("never")]) as it:
        agent = await it.start(mcp=[{"server": "unknown"}])
        with pytest.raises(AgentPaused, match="no MCP server 'unknown' on this worker"):
            await agent.send("go", timeout=60)
        await agent.close()
