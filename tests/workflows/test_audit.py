"""The heads of audit chains: an agent carries its own from run to run, a host's has a workflow."""

import asyncio
from uuid import uuid4

import pytest
from temporalio.client import WorkflowHandle
from temporalio.testing import WorkflowEnvironment

from hibernaut import AgentClient, AgentSpec
from hibernaut._ids import check_agent_id
from hibernaut.contracts import AUDIT_WORKFLOW, TASK_QUEUE, AppendEventsRequest, audit_workflow_id
from hibernaut.errors import InvalidAgentId
from hibernaut.models.audit import AuditHead
from tests.support.scripted_agents import Script, working
from workflows.audit_anchor import TOLD, AuditAnchorWorkflow


def _hash(seq: int) -> str:
    return f"{seq:064x}"


def _head(seq: int) -> AuditHead:
    return AuditHead(seq=seq, hash=_hash(seq))


async def test_an_agent_hands_on_the_head_that_it_was_told(server: WorkflowEnvironment) -> None:
    script, asked = Script(), list[AppendEventsRequest]()

    async def append(request: AppendEventsRequest) -> AuditHead | None:
        asked.append(request)
        if len(asked) == 2:
            # A worker of an older build writes the events and knows of no chain.
            return None
        assert request.audit is not None
        seq = request.audit.seq + len(request.events)
        return AuditHead(seq=seq, hash=_hash(seq), event=request.events[-1].seq)

    script.on_events = append
    async with working(server.client, script):
        agent = await AgentClient.over(server.client).start(f"agent-{uuid4().hex[:8]}", AgentSpec(model="scripted"))
        runs: set[str] = set()
        for turn in range(3):
            await agent.send(f"run {turn}")
            await agent.hibernate()
            while len(asked) <= turn:
                await asyncio.sleep(0.02)
            while turn != 1 and (await agent.status()).audit.event < asked[turn].events[-1].seq:
                await asyncio.sleep(0.02)
            runs.add((await server.client.get_workflow_handle(agent.id).describe()).run_id)
        await agent.close()
    heads = [request.audit for request in asked]
    assert heads[0] == AuditHead()
    assert heads[1] is not None
    assert heads[1].event == asked[0].events[-1].seq
    assert heads[2] == heads[1], "what nobody wrote lines of is told as a gap by the next who does"
    assert heads[3] is not None
    assert heads[3].event == asked[2].events[-1].seq
    assert len(runs) > 1


async def _heard(handle: WorkflowHandle[AuditAnchorWorkflow, None], seq: int) -> AuditHead:
    while (head := await handle.query("head", result_type=AuditHead)).seq < seq:
        await asyncio.sleep(0.02)
    return head


async def test_an_anchor_never_goes_back_and_lives_in_bounded_runs(server: WorkflowEnvironment) -> None:
    client, name = server.client, audit_workflow_id(f"host-{uuid4().hex[:8]}")
    async with working(client, Script()):
        handle = await client.start_workflow(AUDIT_WORKFLOW, id=name, task_queue=TASK_QUEUE)
        first = (await handle.describe()).run_id
        await handle.signal("anchor", _head(7))
        await handle.signal("anchor", _head(3))
        await handle.signal("anchor", AuditHead(seq=7, hash="0" * 64))
        assert await _heard(handle, 7) == _head(7), "neither an older head nor another one of that number counts"
        await asyncio.gather(*(handle.signal("anchor", _head(seq)) for seq in range(8, 8 + TOLD)))
        assert (await _heard(handle, 7 + TOLD)).seq == 7 + TOLD
        while (await client.get_workflow_handle(name).describe()).run_id == first:
            await asyncio.sleep(0.02)
        assert await _heard(handle, 7 + TOLD) == _head(7 + TOLD), "the next run knows what the one before knew"
        await handle.terminate("the test is over")


def test_no_agent_can_have_the_id_of_an_anchor() -> None:
    with pytest.raises(InvalidAgentId):
        check_agent_id(audit_workflow_id("host"))
