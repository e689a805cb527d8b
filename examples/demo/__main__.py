"""`python -m examples.demo`: an agent at work on real data, whose computer is destroyed twice."""

import asyncio
import sys
from contextlib import suppress
from datetime import timedelta
from uuid import uuid4

from examples.demo import figures, material, tasks, timeline
from examples.demo.acts import Play
from examples.demo.docker import Docker
from examples.demo.follow import Follower
from examples.demo.screen import Screen
from examples.demo.wiring import Model, choose_model, ensure_stack, served
from hibernaut import AgentClient, AgentHandle, AgentSpec
from hibernaut.cli.console import size
from hibernaut.errors import HibernautError
from workers.devstack.home import ConnectionFile

IDLE = timedelta(seconds=5)
INTERRUPTED = 130


async def perform(screen: Screen, connection: ConnectionFile, model: Model) -> None:
    """Play all acts with a new agent.

    Raises:
        HibernautError: what failed, in a sentence.
    """
    data, wheel = material.data_set(), material.wheel()
    computed = figures.compute(data.content)
    name = f"demo-{uuid4().hex[:6]}"
    link = f"{connection.ui_url.rstrip('/')}/{name}"
    if model.scripted:
        why = "because OPENAI_API_KEY is not set; all else is real"
        screen.row("model", f"a script, served here at {model.base_url} in the Responses API's format, {why}")
    else:
        screen.row("model", f"{model.name} at {model.base_url}")
    about = f"{data.name}, {size(len(data.content))}, {computed.airports:,} airports"
    screen.row("data", f"{about} (from {data.package} {data.version}, licence {data.licence})")
    screen.row("package", f"{wheel.name}, {size(len(wheel.content))} (licence {wheel.licence})")
    screen.row("agent", f"{name}, hibernates when idle for {IDLE.seconds} s; its computer has no network")
    screen.row("web UI", link)
    spec = AgentSpec(
        model=model.name, provider=model.provider, instructions=tasks.INSTRUCTIONS, idle_timeout=IDLE, max_steps=60
    )
    async with await AgentClient.connect(
        address=connection.temporal_address,
        namespace=connection.temporal_namespace,
        gateway_url=connection.gateway_url,
        gateway_token=connection.gateway_token,
    ) as client:
        agent = await client.start(name, spec)
        first_run = (await client.temporal.get_workflow_handle(name).describe()).run_id
        follower = Follower(agent, screen, connection)
        play = Play(agent, screen, follower, Docker(screen, name), data, wheel, computed)
        try:
            await play.first()
            await play.second()
            await play.third()
            report = await agent.files.read_text(tasks.REPORT)
        finally:
            # Nobody serves the script any more: the agent must not go on asking for it.
            if model.scripted:
                await _close(agent)
        screen.heading(f"The report ({tasks.REPORT})")
        screen.document(report)
        screen.heading("Timeline")
        await follower.catch_up()
        timeline.show(screen, follower.events)
        _farewell(screen, name, f"{link}/{first_run}", model)


async def _close(agent: AgentHandle) -> None:
    with suppress(HibernautError):
        await agent.close(timeout=60)


def _farewell(screen: Screen, name: str, first_run: str, model: Model) -> None:
    screen.heading("Look around")
    screen.row("web UI", first_run)
    screen.row("", "the agent's first run, until it slept; it leads on to the latest")
    screen.row("files", f".venv/bin/hibernaut files cat {name} {tasks.REPORT}")
    if model.scripted:
        screen.row("agent", "closed, as its script ends here; its files and events stay")
    else:
        screen.row("agent", f'still there: .venv/bin/hibernaut send {name} "..."')
    screen.row("stack", "runs on; `make down` stops it, `make demo` plays again")


async def run(screen: Screen) -> None:
    """The whole demo."""
    screen.title("Hibernaut: an agent at work, whose computer is destroyed twice")
    connection = ensure_stack()
    screen.row(
        "stack", f"Temporal at {connection.temporal_address}, S3 at {connection.s3_endpoint} (pid {connection.pid})"
    )
    model = choose_model(connection)
    async with served(model):
        await perform(screen, connection, model)


def main() -> int:
    """0 when everything held, 1 when something did not, with a sentence."""
    screen = Screen()
    try:
        asyncio.run(run(screen))
    except HibernautError as error:
        screen.bad(f"{error.message} {error.hint}".strip())
        return 1
    except TimeoutError:
        screen.bad("Something took too long; `.venv/bin/hibernaut ls` shows the agents, .hibernaut/logs what happened.")
        return 1
    except KeyboardInterrupt:
        screen.bad("Interrupted.")
        return INTERRUPTED
    return 0


if __name__ == "__main__":
    sys.exit(main())
