"""Scenarios of an allowlist that is changed while the agent lives."""

from collections.abc import Awaitable, Callable
from typing import Any

from temporalio.client import WorkflowHandle
from temporalio.exceptions import ApplicationError

from hibernaut.models import AgentState
from hibernaut.models.network_change import NetworkChange, NetworkDecision, NetworkReport, NetworkStatus
from tests.workflows.conftest import Rig
from tests.workflows.world import gone, say, shell

Agent = WorkflowHandle[Any, Any]


async def reached(rig: Rig) -> Agent:
    """Rules changed with a container, without one, on one that is lost, on a host that refuses; connections told."""
    rig.world.script = [shell("1"), say("one"), shell("2"), say("two"), shell("3"), say("three"), shell("4"), say("4")]
    rig.world.reports = [NetworkReport(decisions=(NetworkDecision(host="a", port=80, allowed=True),), mark="m:1")]
    agent = await rig.start(idle_timeout=2, sandbox={"network": {"mode": "allowlist", "allow": ["example.com"]}})
    handle = rig.client.get_workflow_handle(agent.id)

    async def change(**fields: object) -> NetworkStatus:
        request = NetworkChange.model_validate(fields)
        return await handle.execute_update("set_network", request, result_type=NetworkStatus)

    await rig.ask(agent, "go")
    await change(allow=["one.example"], by="ann")
    await rig.ask(agent, "go on")
    rig.world.live.clear()
    rig.world.apply_errors = [gone(), gone()]
    await change(deny=["example.com"])
    await rig.ask(agent, "and on")
    rig.world.apply_errors = [ApplicationError("no proxy", type="SandboxRefused", non_retryable=True)]
    await change(allow=["two.example"])
    await rig.until(agent, state=AgentState.HIBERNATED)
    await change(allow=["three.example"])
    await rig.ask(agent, "wake")
    return agent


REACHING: tuple[Callable[[Rig], Awaitable[Agent]], ...] = (reached,)
