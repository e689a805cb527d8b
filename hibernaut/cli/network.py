"""`hibernaut network`: which hosts an agent may reach, and other rules for it."""

from collections.abc import Awaitable, Callable
from typing import Annotated

import typer

from hibernaut.agent import AgentHandle
from hibernaut.cli.budget import user
from hibernaut.cli.console import Format, plain, session
from hibernaut.cli.options import Name, Output, connected
from hibernaut.cli.rules import notes, rules_table
from hibernaut.client import AgentClient
from hibernaut.models.network_change import NetworkStatus

app = typer.Typer(
    no_args_is_help=True,
    help="Which hosts an agent whose network is an allowlist may reach; changed while it lives.",
)
Hosts = Annotated[
    list[str], typer.Argument(metavar="HOST[:PORT]...", help="Names, *.names or addresses; 443 and 80 without a port.")
]
By = Annotated[str | None, typer.Option("--by", help="Who changes it; your user name by default.")]


@app.command()
def show(name: Name, *, output: Output = Format.TEXT) -> None:
    """What an agent may reach, and how that differs from its spec."""
    del output
    _told(name, lambda agent: agent.network.status())


@app.command()
def allow(name: Name, hosts: Hosts, *, by: By = None, output: Output = Format.TEXT) -> None:
    """Let an agent reach hosts, from now on and for good; a sleeping one from its wake on."""
    del output
    _told(name, lambda agent: agent.network.allow(*hosts, by=user() if by is None else by))


@app.command()
def deny(name: Name, hosts: Hosts, *, by: By = None, output: Output = Format.TEXT) -> None:
    """Take rules away and cut the connections they let through. Without a port all rules of a host are meant."""
    del output
    _told(name, lambda agent: agent.network.deny(*hosts, by=user() if by is None else by))


def _told(name: str, work: Callable[[AgentHandle], Awaitable[NetworkStatus]]) -> None:
    async def asked(client: AgentClient) -> NetworkStatus:
        return await work(client.get(name))

    status = connected(asked)
    if session.json:
        session.data({**plain(status), "added": list(status.added), "removed": list(status.removed)})
        return
    session.out.print(rules_table(status))
    for line in notes(status):
        session.note(line)
