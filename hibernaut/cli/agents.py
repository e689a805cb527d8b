"""Commands that start agents, talk to them and look at them."""

import asyncio
import contextlib
import sys
import uuid
from typing import Annotated

import typer

from hibernaut._messages import Reply
from hibernaut.agent import AgentHandle
from hibernaut.cli.console import Format, plain, session
from hibernaut.cli.options import (
    Image,
    Model,
    Name,
    Network,
    NoWait,
    Output,
    Provider,
    Runtime,
    Seconds,
    Spec,
    Text,
    build_spec,
    connected,
    read_text,
)
from hibernaut.cli.render import agents_table, show_event, status_table
from hibernaut.cli.troubles import warn_of_troubles
from hibernaut.client import AgentClient, AgentSummary
from hibernaut.errors import AgentNotFound, HibernautError
from hibernaut.models import AgentState, AgentStatus, EventKind, Ticket, Trouble

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
            valid = build_spec(spec, model=model, provider=provider, image=image, runtime=runtime, network=network)
            agent = await client.start(name, valid)
        else:
            if spec or provider or image or runtime or network:
                session.note(f"Agent {name} is there already: its own spec holds.")
        return await _converse(agent, message, message_id, timeout, since=since, events=events)

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
    output: Output = Format.TEXT,
) -> None:
    """Start an agent and return at once."""
    del output
    valid = build_spec(spec, model=model, provider=provider, image=image, runtime=runtime, network=network)
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


def send(
    name: Name,
    text: Text,
    *,
    message_id: MessageId = None,
    timeout: Seconds = None,
    no_wait: NoWait = False,
    events: Events = None,
    output: Output = Format.TEXT,
) -> None:
    """Send a message and print the answer."""
    del output
    message = read_text(text)

    async def work(client: AgentClient) -> Reply | Ticket:
        agent = client.get(name)
        if no_wait:
            return await agent.post(message, message_id=message_id)
        return await _converse(agent, message, message_id, timeout, since=None, events=events)

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
    output: Output = Format.TEXT,
) -> None:
    """Show what an agent did and does, live."""
    del output

    async def work(client: AgentClient) -> None:
        async for event in client.get(name).events(since, follow=not no_follow):
            if session.json:
                session.line(event)
            else:
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


async def _converse(
    agent: AgentHandle,
    text: str,
    message_id: str | None,
    timeout: float | None,
    *,
    since: int | None,
    events: bool | None,
) -> Reply:
    """Send and wait, with live events beside when somebody watches."""
    warner = asyncio.create_task(warn_of_troubles(agent))
    try:
        return await _watched(agent, text, message_id, timeout, since=since, events=events)
    finally:
        warner.cancel()


async def _watched(
    agent: AgentHandle,
    text: str,
    message_id: str | None,
    timeout: float | None,
    *,
    since: int | None,
    events: bool | None,
) -> Reply:
    watched = sys.stderr.isatty() and not session.json if events is None else events
    if not watched:
        return await agent.send(text, message_id=message_id, timeout=timeout)
    begin = (await agent.status()).last_event if since is None else since
    ticket = await agent.post(text, message_id=message_id)
    watch = asyncio.create_task(_watch(agent, begin, ticket.message_id))
    patience = LAST_LOOK
    try:
        reply = await agent.wait(ticket.message_id, timeout=timeout)
        patience = TURN_END
        return reply
    finally:
        with contextlib.suppress(TimeoutError, HibernautError):
            await asyncio.wait_for(watch, patience)


TURN_END = 5.0
"""Longest wait, in seconds, for the event that ends a turn once its answer is there."""
LAST_LOOK = 0.4
"""The same when there is no answer: whatever else happened is shown if it comes at once."""


async def _watch(agent: AgentHandle, since: int, message_id: str) -> None:
    async for event in agent.events(since):
        answer = event.kind is EventKind.REPLY and not event.data.get("tool_calls")
        if not answer and event.kind is not EventKind.MESSAGE:
            # The message is what was just typed, and the answer goes to standard output.
            show_event(event, err=True)
        if (
            event.kind in {EventKind.TURN_FINISHED, EventKind.INTERRUPTED}
            and event.data.get("message_id") == message_id
        ):
            return


def _show_reply(reply: Reply) -> None:
    if session.json:
        session.data(reply)
    else:
        session.text(reply.text)
