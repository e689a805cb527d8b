"""A worker killed while it asks the model: what may have been paid twice is told apart, and counts in the budget."""

import asyncio
import os
import sys
import time
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from uuid import uuid4

import pytest
import yaml
from temporalio.client import Client

from examples.scripted_model import ScriptedModel, cut_stream, hang, http_error, say
from hibernaut import AgentClient, AgentSpec, BudgetSpec, Limits
from hibernaut.contracts import TASK_QUEUE
from hibernaut.errors import AgentPaused
from hibernaut.models import EventKind
from hibernaut.models.budget import MICROS
from workers.devstack.stack import DevStack
from workers.devstack.temporal import worker_polls


async def _worker(temporal: Client, environ: Mapping[str, str]) -> asyncio.subprocess.Process:
    since = time.time()
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "workers",
        env={**os.environ, **environ},
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    while not await worker_polls(temporal, TASK_QUEUE, since=since):
        assert process.returncode is None
        await asyncio.sleep(0.1)
    return process


@pytest.mark.slow
async def test_a_call_that_died_with_its_worker_is_an_estimate(
    stack: DevStack, temporal: Client, tmp_path: Path
) -> None:
    # What the provider refuses was not paid; what was under way when the worker died may have been.
    script = [
        *(http_error(429, {"retry-after": "0"}), hang(600), say("done")),
        *(cut_stream(2_500), say("and now")),
        hang(600),
    ]
    async with ScriptedModel(script, model="priced") as model:
        price = {"input": 1, "output": 10}
        provider = {"base_url": model.base_url, "api_key_env": "KEY", "models": {model.model: {"price": price}}}
        file = tmp_path / "providers.yaml"
        file.write_text(yaml.safe_dump({"currency": "EUR", "providers": {"default": provider}}))
        environ = {
            **stack.env,
            "HIBERNAUT_HOST_ID": f"mortal-{uuid4().hex[:6]}",
            "HIBERNAUT_HOME": str(tmp_path),
            "HIBERNAUT_PROVIDERS": str(file),
            "KEY": model.api_key,
        }
        first = await _worker(temporal, environ)
        agent = await AgentClient.over(temporal).start(f"mortal-{uuid4().hex[:6]}", AgentSpec(model=model.model))
        ticket = await agent.post("go")
        while len(model.requests) < 2:
            await asyncio.sleep(0.05)
        first.kill()
        await first.wait()
        second = await _worker(temporal, environ)
        try:
            assert (await agent.wait(ticket.message_id, timeout=90)).text == "done"
            status = await agent.status()
            assert (status.usage.tokens > 0, status.usage.currency) == (True, "EUR")
            assert status.usage.cost_micros == status.usage.input_tokens + 10 * status.usage.output_tokens
            assert status.usage_estimate == status.usage
            budget = await agent.budget.status()
            life = budget.spent.life
            assert (life.steps, life.money_micros) == (1, 2 * status.usage.cost_micros)
            assert life.estimated_micros == status.usage.cost_micros
            # With a limit, a call that may have been paid is not made again for more than is left.
            left = budget.spent.life.money_micros + 1
            await agent.budget.set(BudgetSpec(life=Limits(money=Decimal(left) / MICROS)), by="ann")
            ticket = await agent.post("and now?")
            with pytest.raises(AgentPaused, match=f"hibernaut budget {agent.id} --set life.money="):
                await agent.wait(ticket.message_id, timeout=60)
            assert len(model.requests) == 4
            cleared = await agent.budget.set(clear=["life.money"], by="ann")
            assert cleared.spent.life.estimated_micros > budget.spent.life.estimated_micros
            assert (await agent.wait(ticket.message_id, timeout=60)).text == "and now"
            # Nor is one that somebody interrupts for free.
            before = (await agent.status()).usage_estimate
            await agent.post("on")
            while len(model.requests) < 6:
                await asyncio.sleep(0.05)
            await agent.interrupt()
            async with asyncio.timeout(20):
                while (after := (await agent.status()).usage_estimate) == before:
                    await asyncio.sleep(0.2)
            assert after.cost_micros > before.cost_micros
            events = [event async for event in agent.events(follow=False) if event.kind is EventKind.BUDGET]
            assert [event.data["by"] for event in events if "by" in event.data] == ["ann", "ann"]
            await agent.close(timeout=60)
        finally:
            second.terminate()
            await second.wait()
