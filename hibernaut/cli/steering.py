"""Commands that steer an agent: sleep, wake, stop, go on, end, delete."""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from typing import Annotated

import typer

from hibernaut._deletion import deletion_step
from hibernaut._temporal import Workflows
from hibernaut.agent import AgentHandle
from hibernaut.cli.certificates import CertificateFile, check_place, deletion_lines, write_certificate
from hibernaut.cli.console import Format, session
from hibernaut.cli.live import LiveLine, watching
from hibernaut.cli.options import Name, NoWait, Output, Seconds, connected
from hibernaut.client import AgentClient
from hibernaut.errors import InvalidRequest
from hibernaut.models import AgentStatus
from hibernaut.models.deletion import CertificateFound

QUIET_S = 5.0
"""Seconds between two looks at what a deletion is at."""


def register(app: typer.Typer) -> None:
    """Add these commands."""
    for command in (hibernate, wake, interrupt, pause, resume, close, delete):
        app.command()(command)


def hibernate(name: Name, *, no_wait: NoWait = False, timeout: Seconds = None, output: Output = Format.TEXT) -> None:
    """Give the container up, keep the state."""
    del output
    _steer(name, lambda agent: agent.hibernate(wait=not no_wait, timeout=timeout))


def wake(name: Name, *, no_wait: NoWait = False, timeout: Seconds = None, output: Output = Format.TEXT) -> None:
    """Restore the container without a message."""
    del output
    _steer(name, lambda agent: agent.wake(wait=not no_wait, timeout=timeout))


def interrupt(name: Name, output: Output = Format.TEXT) -> None:
    """End the turn under way; the agent stays."""
    del output
    _steer(name, lambda agent: agent.interrupt())


def pause(
    name: Name,
    reason: Annotated[str, typer.Option("--reason", help="Shown wherever the agent is shown.")] = "",
    output: Output = Format.TEXT,
) -> None:
    """Take up no further step until resumed."""
    del output
    _steer(name, lambda agent: agent.pause(reason))


def resume(name: Name, output: Output = Format.TEXT) -> None:
    """Go on after a pause."""
    del output
    _steer(name, lambda agent: agent.resume())


def close(name: Name, *, no_wait: NoWait = False, timeout: Seconds = None, output: Output = Format.TEXT) -> None:
    """End an agent; its files stay readable."""
    del output
    _steer(name, lambda agent: agent.close(wait=not no_wait, timeout=timeout))


def delete(
    name: Name,
    *,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    certificate: CertificateFile = None,
    output: Output = Format.TEXT,
) -> None:
    """Delete an agent and all it has; a certificate says what was removed, and what is kept for others."""
    del output
    if certificate is not None:
        check_place(certificate)
    if not yes:
        if not sys.stdin.isatty():
            raise InvalidRequest("Deleting cannot be undone, and nobody is there to ask.", hint="Say --yes.")
        typer.confirm(f"Delete agent {name} with its files, conversation and history?", abort=True, err=True)

    async def work(client: AgentClient) -> CertificateFound | None:
        watch = asyncio.create_task(_told_of_deletion(client, name))
        try:
            done = await client.get(name).delete()
        finally:
            watch.cancel()
        # Said at once: whatever fails now, the agent is gone.
        if session.json:
            session.data({"agent_id": name, "deleted": True, **done.model_dump(mode="json")})
        else:
            for line in deletion_lines(name, done):
                session.out.print(line)
        wanted = certificate is not None and done.certificate is not None
        return await client.certificate(done.agent_uid) if wanted else None

    found = connected(work)
    if certificate is not None and found is not None:
        write_certificate(certificate, found)


async def _told_of_deletion(client: AgentClient, name: str) -> None:
    """Say what a deletion is at that takes long."""
    workflows, told = Workflows(client.temporal), ""
    while True:
        await asyncio.sleep(QUIET_S)
        step = await deletion_step(workflows, name) or "it is closed first, and its children are deleted"
        if step != told:
            session.note(f"Deleting {name} takes a while ({step}). It goes on without this command once it is closed.")
            told = step


def _steer(name: str, request: Callable[[AgentHandle], Awaitable[AgentStatus]]) -> None:
    line = LiveLine(over=sys.stderr.isatty())

    async def work(client: AgentClient) -> AgentStatus:
        agent = client.get(name)
        async with watching(agent, line.show) if sys.stderr.isatty() and not session.json else nullcontext():
            return await request(agent)

    status = connected(work)
    if session.json:
        session.data(status)
        return
    why = f" ({status.paused_reason})" if status.paused_reason else ""
    session.out.print(f"Agent {name} is {status.state.value.replace('_', ' ')}{why}.")
