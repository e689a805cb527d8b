"""The SDK against the real workflow on a real server."""

import asyncio
import subprocess
import sys
import uuid
from collections.abc import AsyncGenerator

import pytest
from temporalio.testing import WorkflowEnvironment

from hibernaut import AgentSpec, AgentState, EventKind, errors
from hibernaut.client import AgentClient
from hibernaut.contracts import TASK_QUEUE
from hibernaut.contracts.names import RESERVED_PREFIXES
from tests.support.scripted_agents import Script, temporal_server, working
from workers.runs import RunEraser

SPEC = AgentSpec(model="scripted")


@pytest.fixture(scope="module")
async def server() -> AsyncGenerator[WorkflowEnvironment]:
    async with temporal_server() as env:
        yield env


@pytest.fixture
async def script(server: WorkflowEnvironment) -> AsyncGenerator[Script]:
    one = Script()
    async with working(server.client, one):
        yield one
        one.gate.set()


@pytest.fixture
def client(server: WorkflowEnvironment) -> AgentClient:
    return AgentClient.over(server.client)


@pytest.fixture
def name() -> str:
    return f"agent-{uuid.uuid4().hex[:8]}"


@pytest.mark.usefixtures("script")
async def test_a_message_is_answered_once(client: AgentClient, name: str) -> None:
    agent = await client.start(name, SPEC, message="first", message_id="m1")
    assert (await agent.wait("m1")).text == "you said first"
    reply = await agent.send("second", message_id="m2")
    assert (str(reply), reply.turn, reply.steps) == ("you said second", 2, 1)
    assert (await agent.send("second", message_id="m2")).turn == 2
    assert (await agent.status()).turn == 2


@pytest.mark.usefixtures("script")
async def test_waiting_survives_continue_as_new(client: AgentClient, name: str) -> None:
    agent = await client.start(name, SPEC)
    runs: set[str] = set()
    for number in range(3):
        assert (await agent.send(f"n{number}")).text == f"you said n{number}"
        assert (await agent.hibernate(timeout=20)).state is AgentState.HIBERNATED
        runs.add((await client.temporal.get_workflow_handle(name).describe()).run_id)
    # A run may still be ending when it is looked at.
    assert len(runs) >= 2
    events = [event async for event in agent.events(follow=False)]
    assert [event.seq for event in events] == list(range(1, len(events) + 1))


@pytest.mark.usefixtures("script")
async def test_following_ends_when_the_agent_is_closed(client: AgentClient, name: str) -> None:
    agent = await client.start(name, SPEC)

    async def follow() -> list[EventKind]:
        return [event.kind async for event in agent.events()]

    following = asyncio.create_task(follow())
    await agent.send("x")
    assert (await agent.close(timeout=20)).state is AgentState.CLOSED
    kinds = await asyncio.wait_for(following, 10)
    assert EventKind.STARTED in kinds
    assert kinds[-1] is EventKind.CLOSED


@pytest.mark.usefixtures("script")
async def test_wake_and_hibernate(client: AgentClient, name: str) -> None:
    agent = await client.start(name, SPEC)
    woken = await agent.wake(timeout=20)
    assert woken.lease is not None
    asleep = await agent.hibernate(timeout=20)
    assert (asleep.state, asleep.lease) == (AgentState.HIBERNATED, None)


@pytest.mark.usefixtures("script")
async def test_a_wake_on_the_heels_of_a_hibernate_is_not_lost(client: AgentClient, name: str) -> None:
    agent = await client.start(name, SPEC)
    for _ in range(3):
        await agent.wake(timeout=20)
        await agent.hibernate(wait=False)
        assert (await agent.wake(timeout=20)).lease is not None


@pytest.mark.usefixtures("script")
async def test_a_refusal_carries_the_models_words(client: AgentClient, name: str) -> None:
    agent = await client.start(name, SPEC)
    with pytest.raises(errors.ModelRefused) as caught:
        await agent.send("refuse")
    assert caught.value.text == "you said refuse"


@pytest.mark.usefixtures("script")
async def test_a_pause_is_told_and_resumed(client: AgentClient, name: str) -> None:
    agent = await client.start(name, SPEC)
    with pytest.raises(errors.AgentPaused) as caught:
        await agent.send("reject")
    assert "the key is wrong" in caught.value.reason
    assert f"hibernaut resume {name}" in caught.value.hint
    assert (await agent.status()).state is AgentState.PAUSED


async def test_a_turn_is_interrupted_and_the_agent_stays(client: AgentClient, name: str, script: Script) -> None:
    agent = await client.start(name, SPEC)
    with pytest.raises(errors.WaitTimeout, match="gave no answer to message held"):
        await agent.send("hold", message_id="held", timeout=0.5)
    await agent.interrupt()
    with pytest.raises(errors.TurnInterrupted):
        await agent.wait("held", timeout=20)
    script.gate.set()
    assert (await agent.send("on")).text == "you said on"


async def test_cancelling_a_wait_ends_it(client: AgentClient, name: str, script: Script) -> None:
    agent = await client.start(name, SPEC)
    sending = asyncio.create_task(agent.send("hold"))
    await asyncio.sleep(0.5)
    sending.cancel()
    done, _ = await asyncio.wait([sending], timeout=5)
    assert done
    assert sending.cancelled()
    script.gate.set()


@pytest.mark.usefixtures("script")
async def test_a_second_agent_of_the_same_id_is_refused_running_or_closed(client: AgentClient, name: str) -> None:
    agent = await client.start(name, SPEC)
    with pytest.raises(errors.AgentAlreadyExists):
        await client.start(name, SPEC)
    await agent.close(timeout=20)
    with pytest.raises(errors.AgentAlreadyExists, match=f"hibernaut delete {name}"):
        await client.start(name, SPEC)
    with pytest.raises(errors.AgentClosed):
        await agent.send("x")
    assert (await agent.close()).state is AgentState.CLOSED


async def test_deleting_closes_purges_and_forgets(client: AgentClient, name: str, script: Script) -> None:
    agent = await client.start(name, SPEC)
    uid = (await agent.status()).agent_uid
    done = await agent.delete(by="ann")
    assert [(request.agent_id, request.agent_uid) for request in script.purged] == [(name, uid)]
    assert script.forgotten == [name]
    assert [(one.name, one.asked_by) for one in script.certified] == [(uid, "ann")]
    assert (done.agent_uid, done.certificate) == (uid, f"certificates/{uid}.json")


async def test_an_agent_deleted_twice_has_one_certificate(
    client: AgentClient, server: WorkflowEnvironment, name: str, script: Script
) -> None:
    agent = await client.start(name, SPEC)
    done = await agent.delete()
    # What the real activity does with its runs.
    await RunEraser(server.client).forget(name)
    assert await agent.delete(by="bob") == done
    assert len(script.certified) == 1


@pytest.mark.usefixtures("script")
@pytest.mark.parametrize("prefix", RESERVED_PREFIXES)
async def test_an_id_of_the_engines_own_is_refused(
    client: AgentClient, server: WorkflowEnvironment, prefix: str
) -> None:
    taken = f"{prefix}{uuid.uuid4().hex[:8]}"
    with pytest.raises(errors.InvalidAgentId, match="engine's workflows"):
        await client.start(taken, SPEC)
    await server.client.start_workflow("AgentWorkflow", SPEC, id=taken, task_queue=TASK_QUEUE)
    with pytest.raises(errors.InvalidSpec, match="engine's workflows"):
        await client.get(taken).send("x")


@pytest.mark.usefixtures("script")
async def test_an_agent_started_elsewhere_with_an_invalid_spec_says_so(
    client: AgentClient, server: WorkflowEnvironment, name: str
) -> None:
    await server.client.start_workflow("AgentWorkflow", {"modell": "x"}, id=name, task_queue=TASK_QUEUE)
    with pytest.raises(errors.InvalidSpec, match="modell"):
        await client.get(name).send("x")


@pytest.mark.usefixtures("script")
async def test_agents_are_listed_by_state(client: AgentClient, name: str) -> None:
    agent = await client.start(name, SPEC)
    await agent.send("x")
    await agent.hibernate(timeout=20)
    async with asyncio.timeout(20):
        while not (found := [one async for one in client.list(AgentState.HIBERNATED) if one.agent_id == name]):
            await asyncio.sleep(0.1)
    assert [(one.state, one.model) for one in found] == [(AgentState.HIBERNATED, "scripted")]
    assert len([one async for one in client.list() if one.agent_id == name]) == 1


async def test_an_unknown_agent(client: AgentClient) -> None:
    agent = client.get("nobody")
    for call in (agent.status, agent.hibernate, agent.delete, agent.close):
        with pytest.raises(errors.AgentNotFound, match="nobody"):
            await call()
    with pytest.raises(errors.AgentNotFound):
        await agent.send("x")
    with pytest.raises(errors.AgentNotFound):
        _ = [event async for event in agent.events()]


async def test_an_oversized_message_never_leaves(client: AgentClient) -> None:
    # No such agent, no worker: nobody was asked.
    with pytest.raises(errors.MessageTooLarge, match=r"1,000,001 bytes.*1,000,000"):
        await client.get("nobody").send("x" * 1_000_001)
    with pytest.raises(errors.InvalidRequest, match="empty"):
        await client.get("nobody").send("")


@pytest.mark.parametrize("bad", ["", "a b", "ä", "x" * 129, "a/b", "..", "."])
async def test_an_invalid_id_is_refused(client: AgentClient, bad: str) -> None:
    with pytest.raises(errors.InvalidAgentId):
        await client.start(bad, SPEC)


async def test_a_namespace_that_is_missing_is_named(server: WorkflowEnvironment) -> None:
    address = server.client.service_client.config.target_host
    client = await AgentClient.connect(address=address, namespace="nowhere")
    with pytest.raises(errors.NamespaceNotFound, match="nowhere"):
        await client.get("x").status()
    with pytest.raises(errors.NamespaceNotFound):
        await client.start("x", SPEC)
    with pytest.raises(errors.NamespaceNotFound):
        _ = [agent async for agent in client.list()]


async def test_files_without_a_gateway_say_what_to_set(client: AgentClient) -> None:
    with pytest.raises(errors.GatewayNotConfigured, match="HIBERNAUT_GATEWAY_URL"):
        await client.get("x").files.read("/etc/hostname")


async def test_unreachable_servers_are_told_in_time(unused_tcp_port: int) -> None:
    with pytest.raises(errors.TemporalUnreachable, match=f"127.0.0.1:{unused_tcp_port}"):
        await AgentClient.connect(address=f"127.0.0.1:{unused_tcp_port}")


async def test_a_server_that_is_no_temporal_is_told_in_time() -> None:
    async def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async with await asyncio.start_server(hang_up, "127.0.0.1", 0) as listener:
        port = listener.sockets[0].getsockname()[1]
        with pytest.raises(errors.TemporalUnreachable, match="not a Temporal server"):
            await AgentClient.connect(address=f"127.0.0.1:{port}")


@pytest.mark.slow
async def test_without_a_worker_it_says_so_instead_of_hanging(name: str) -> None:
    async with temporal_server() as fresh:
        client = AgentClient.over(fresh.client)
        agent = await client.start(name, SPEC, message="waits", message_id="m1")
        for call in (agent.status, agent.close, agent.delete):
            with pytest.raises(errors.NoWorker, match="No worker polls"):
                await asyncio.wait_for(call(), 10)
        # What was said before any worker came is answered by the first one.
        async with working(fresh.client, Script()):
            assert (await agent.wait("m1", timeout=20)).text == "you said waits"


def test_the_package_loads_no_client_before_one_is_named() -> None:
    code = "import sys, hibernaut; print([m for m in ('temporalio.client', 'httpx2', 'typer') if m in sys.modules])"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert shown.strip() == "[]"
