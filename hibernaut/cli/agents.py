"""Commands that start agents, talk to them and look at them."""

import contextlib
import sys
import uuid
from typing import Annotated

import typer

from hibernaut._messages import Reply
from hibernaut.cli.console import Format, plain, session
from hibernaut.cli.conversing import converse
from hibernaut.cli.live import LiveLine, watching
from hibernaut.cli.options import (
    Allow,
    Image,
    Model,
    Name,
    Network,
    NoWait,
    Output,
    Provider,
    Runtime,
    Seconds,
    Secret,
    Spec,
    Text,
    build_spec,
    connected,
    read_text,
)
from hibernaut.cli.render import agents_table, show_event, status_table
from hibernaut.client import AgentClient, AgentSummary
from hibernaut.contracts import LiveProgress
from hibernaut.errors import AgentNotFound, InvalidRequest
from hibernaut.models import AgentState, AgentStatus, Ticket, Trouble

Events = Annotated[
    bool | None,
    typer.Option(
        "--events/--no-events",
        help="Show on standard error what the agent does; by default on a terminal.",
        show_default=False,
    ),
]
MessageId = Annotated[
    str | None, typer.Option("--message-id", help="Sending the same id again changes nothing and waits on.")
]


def register(app: typer.Typer) -> None:
    """Add these commands."""
    app.command()(run)
    app.command()(start)
    app.command()(send)
    app.command()(follow)
    app.command()(status)
    app.command("ls")(ls)


def run(  # noqa: PLR0913  # a command's options are its parameters
    name: Name,
    text: Text,
    *,
    spec: Spec = None,
    model: Model = None,
    provider: Provider = None,
    image: Image = None,
    runtime: Runtime = None,
    network: Network = None,
    allow: Allow = None,
    secret: Secret = None,
    message_id: MessageId = None,
    timeout: Seconds = None,
    events: Events = None,
    output: Output = Format.TEXT,
) -> None:
    """Send a message, starting the agent if need be."""
    del output
    message = read_text(text)

    async def work(client: AgentClient) -> Reply:
        agent = client.get(name)
        try:
            since = (await agent.status()).last_event
        except AgentNotFound:
            since = 0
            valid = build_spec(
                spec,
                model=model,
                provider=provider,
                image=image,
                runtime=runtime,
                network=network,
                allow=allow,
                secret=secret,
            )
            agent = await client.start(name, valid)
        else:
            if spec or provider or image or runtime or network or allow or secret:
                session.note(f"Agent {name} is there already: its own spec holds.")
        return await converse(agent, message, message_id, timeout, since=since, events=events)

    _show_reply(connected(work))


def start(  # noqa: PLR0913  # a command's options are its parameters
    name: Name,
    *,
    spec: Spec = None,
    message: Annotated[str | None, typer.Option("--message", "-m", help="A first message, or - for stdin.")] = None,
    model: Model = None,
    provider: Provider = None,
    image: Image = None,
    runtime: Runtime = None,
    network: Network = None,
    allow: Allow = None,
    secret: Secret = None,
    output: Output = Format.TEXT,
) -> None:
    """Start an agent and return at once."""
    del output
    valid = build_spec(
        spec, model=model, provider=provider, image=image, runtime=runtime, network=network, allow=allow, secret=secret
    )
    text = None if message is None else read_text(message)
    message_id = None if text is None else f"m-{uuid.uuid4().hex}"

    async def work(client: AgentClient) -> str | None:
        await client.start(name, valid, message=text, message_id=message_id)
        return client.connection.ui_url if client.connection else None

    ui = connected(work)
    if session.json:
        session.data({"agent_id": name, "message_id": message_id})
        return
    session.out.print(f"Started agent {name}.")
    if ui:
        session.note(f"{ui.rstrip('/')}/{name}")


def send(  # noqa: PLR0913  # a command's options are its parameters
    name: Name,
    text: Text,
    *,
    message_id: MessageId = None,
    timeout: Seconds = None,
    no_wait: NoWait = False,
    events: Events = None,
    steer: Annotated[
        bool, typer.Option("--steer", help="Tell it to the turn that runs, before its next model call.")
    ] = False,
    interrupt: Annotated[bool, typer.Option("--interrupt", help="End the turn that runs, begin with this.")] = False,
    output: Output = Format.TEXT,
) -> None:
    """Send a message and print the answer; while a turn runs, it waits for its end."""
    del output
    message = read_text(text)
    if steer and interrupt:
        raise InvalidRequest("A message either steers the running turn or interrupts it.", hint="Give one of the two.")
    delivery = "steer" if steer else "interrupt" if interrupt else "queue"

    async def work(client: AgentClient) -> Reply | Ticket:
        agent = client.get(name)
        if no_wait:
            return await agent.post(message, message_id=message_id, delivery=delivery)
        return await converse(agent, message, message_id, timeout, since=None, events=events, delivery=delivery)

    result = connected(work)
    if isinstance(result, Reply):
        _show_reply(result)
    elif session.json:
        session.data(result)
    else:
        session.out.print(result.message_id)


def follow(
    name: Name,
    *,
    since: Annotated[int, typer.Option(min=0, help="Begin after this event.")] = 0,
    no_follow: Annotated[bool, typer.Option("--no-follow", help="End with the newest event.")] = False,
    progress: Annotated[
        bool | None,
        typer.Option(
            "--progress/--no-progress",
            help="Show how far a restore or a snapshot has come; with -o json only when asked.",
            show_default=False,
        ),
    ] = None,
    output: Output = Format.TEXT,
) -> None:
    """Show what an agent did and does, live."""
    del output
    line = LiveLine(over=sys.stdout.isatty() and sys.stderr.isatty() and not session.json)
    wanted = not session.json if progress is None else progress

    def tell(found: LiveProgress | None) -> None:
        if not session.json:
            line.show(found)
        elif found is not None:
            session.line({"type": "progress", **plain(found)})

    async def work(client: AgentClient) -> None:
        agent = client.get(name)
        async with watching(agent, tell) if wanted and not no_follow else contextlib.nullcontext():
            async for event in agent.events(since, follow=not no_follow):
                if session.json:
                    session.line(event)
                else:
                    line.clear()
                    show_event(event)

    connected(work)


def status(name: Name, output: Output = Format.TEXT) -> None:
    """Show an agent's state."""
    del output

    async def work(client: AgentClient) -> tuple[AgentStatus, list[Trouble], str | None]:
        agent = client.get(name)
        ui = client.connection.ui_url if client.connection else None
        return await agent.status(), await agent.troubles(), ui

    found, troubles, ui = connected(work)
    if session.json:
        session.data({**plain(found), "troubles": plain(troubles)})
    else:
        session.out.print(status_table(found, troubles, ui))


def ls(
    state: Annotated[AgentState | None, typer.Option("--state", help="Only those in this state.")] = None,
    output: Output = Format.TEXT,
) -> None:
    """List agents, the newest first."""
    del output

    async def work(client: AgentClient) -> list[AgentSummary]:
        return [agent async for agent in client.list(state)]

    agents = connected(work)
    if session.json:
        session.data(agents)
    elif agents:
        session.out.print(agents_table(agents))
    else:
        session.note("No agents." if state is None else f"No agents are {state.value}.")


def _show_reply(reply: Reply) -> None:
    if session.json:
        session.data(reply)
    else:
        session.text(reply.text)
