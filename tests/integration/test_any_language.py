"""An agent started and steered with nothing but the plain `temporal` CLI and JSON."""

import asyncio
import json
import sys
from pathlib import Path
from uuid import uuid4

from examples.scripted_model import respond, say, shell
from tests.integration.conftest import Lab, LabFactory

TEMPORAL = Path(sys.executable).with_name("temporal")


async def _temporal(lab: Lab, *arguments: str) -> str:
    process = await asyncio.create_subprocess_exec(
        str(TEMPORAL),
        *arguments,
        "--address",
        lab.settings.connection.address,
        "--namespace",
        lab.settings.connection.namespace,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    return out.decode()


async def _query(lab: Lab, agent: str, name: str, *inputs: str) -> dict[str, object]:
    given = [part for value in inputs for part in ("--input", value)]
    answer = await _temporal(lab, "workflow", "query", "-w", agent, "--name", name, *given, "-o", "json")
    return json.loads(answer)["queryResult"][0]


async def test_start_send_wait_and_close_with_the_temporal_cli(lab: LabFactory) -> None:
    script = [shell("echo $((6 * 7))"), respond(lambda seen: say(seen.calls[-1].results[0].stdout.strip()))]
    async with lab(script) as it:
        agent = f"cli-{uuid4().hex[:8]}"
        spec = {"model": it.model.model, "idle_timeout": "PT5M", "sandbox": {"memory_mb": 512}}
        start = ("workflow", "start", "--type", "AgentWorkflow", "--task-queue", "hibernaut")
        await _temporal(it, *start, "-w", agent, "--input", json.dumps(spec))
        message = json.dumps({"text": "what is 6 times 7?", "message_id": "question"})
        update = ("workflow", "update", "execute", "-w", agent, "--name", "send")
        ticket = json.loads(await _temporal(it, *update, "--input", message, "-o", "json"))["result"]
        assert ticket["message_id"] == "question"
        answer: dict[str, object] = {}
        for _ in range(300):
            answer = await _query(it, agent, "answer", '"question"')
            if answer["state"] == "done":
                break
            await asyncio.sleep(0.1)
        assert answer["text"] == "42"
        again = json.loads(await _temporal(it, *update, "--input", message, "-o", "json"))["result"]
        assert again["duplicate"] is True
        status = await _query(it, agent, "status")
        assert status["state"] == "idle"
        await _temporal(it, "workflow", "update", "execute", "-w", agent, "--name", "close")
        await _temporal(it, "workflow", "result", "-w", agent)
        assert await it.containers(it.client.get(agent)) == []


async def test_a_signal_with_json_delivers_a_message(lab: LabFactory) -> None:
    async with lab([say("heard")]) as it:
        agent = await it.start()
        message = json.dumps({"text": "hello", "message_id": "m1"})
        await _temporal(it, "workflow", "signal", "-w", agent.id, "--name", "send", "--input", message)
        assert (await agent.wait("m1", timeout=30)).text == "heard"
        await agent.close()
