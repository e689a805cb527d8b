"""Commands of the people in an agent's loop: approve, deny, answer."""

from typing import Annotated

import typer

from hibernaut.agent import AgentHandle
from hibernaut.cli.console import Format, clean, session
from hibernaut.cli.options import Name, Output, connected, read_text
from hibernaut.client import AgentClient
from hibernaut.models import AgentStatus, WaitKind

CallId = Annotated[
    str | None, typer.Option("--call", metavar="ID", help="The call that is meant; else the one that waits.")
]


def register(app: typer.Typer) -> None:
    """Add these commands."""
    for command in (approve, deny, answer):
        app.command()(command)


def approve(
    name: Name,
    *,
    call: CallId = None,
    always: Annotated[
        bool, typer.Option("--always", help="Never ask this agent about the same commands again.")
    ] = False,
    output: Output = Format.TEXT,
) -> None:
    """Let the call that waits for consent run."""
    del output
    before, status = connected(lambda client: _approve(client, name, call, always=always))
    _tell(name, "Approved", before, status)


def deny(
    name: Name,
    *,
    call: CallId = None,
    reason: Annotated[str, typer.Option("--reason", help="Told to the model.")] = "",
    output: Output = Format.TEXT,
) -> None:
    """Refuse the call that waits for consent."""
    del output

    async def work(client: AgentClient) -> tuple[str, AgentStatus]:
        agent = client.get(name)
        what, this = await _waits(agent, call)
        return what, await agent.deny(this, reason=reason)

    before, status = connected(work)
    _tell(name, "Denied", before, status)


def answer(
    name: Name,
    text: Annotated[str, typer.Argument(metavar="TEXT", help="The answer, or - to read it from standard input.")],
    *,
    call: CallId = None,
    output: Output = Format.TEXT,
) -> None:
    """Answer the question that an agent asked."""
    del output
    words = read_text(text)

    async def work(client: AgentClient) -> tuple[str, AgentStatus]:
        agent = client.get(name)
        what, this = await _waits(agent, call)
        return what, await agent.respond(words, call_id=this)

    before, status = connected(work)
    _tell(name, "Answered", before, status)


async def _approve(client: AgentClient, name: str, call: str | None, *, always: bool) -> tuple[str, AgentStatus]:
    agent = client.get(name)
    what, call = await _waits(agent, call)
    return what, await agent.approve(call, always=always)


async def _waits(agent: AgentHandle, call: str | None) -> tuple[str, str | None]:
    """What the agent waits for, and its call id: what is told as decided must be what was decided."""
    waiting = (await agent.status()).waiting
    if waiting is None:
        return "", call
    more = " [... and more]" if waiting.cut else ""
    text = waiting.text if waiting.kind is WaitKind.QUESTION else "; ".join(waiting.text.splitlines())
    return text + more, call or waiting.call_id


def _tell(name: str, done: str, what: str, status: AgentStatus) -> None:
    if session.json:
        session.data(status)
    else:
        session.out.print(f"{done} for agent {name}: {clean(what)}")
