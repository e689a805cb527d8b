"""`hibernaut logs`: what an agent's commands wrote."""

import sys
from typing import Annotated

import typer

from hibernaut.cli.console import Format, session
from hibernaut.cli.options import Name, Output, connected
from hibernaut.cli.transcribe import LogPrinter
from hibernaut.client import AgentClient
from hibernaut.errors import InvalidRequest

NEWEST = 20
MOST = 1_000


def register(app: typer.Typer) -> None:
    """Add this command."""
    app.command()(logs)


def logs(
    name: Name,
    *,
    exec_id: Annotated[
        str | None, typer.Option("--exec", metavar="ID", help="This command alone; into a pipe byte for byte.")
    ] = None,
    follow: Annotated[
        bool, typer.Option("--follow", help="Go on with what is written from now on; with --exec until it ends.")
    ] = False,
    tail: Annotated[
        int | None,
        typer.Option("--tail", min=0, max=MOST, help=f"So many commands that ended; {NEWEST} by default."),
    ] = None,
    output: Output = Format.TEXT,
) -> None:
    """Show what an agent's commands wrote and write."""
    del output
    if exec_id is not None and tail is not None:
        raise InvalidRequest("--tail counts commands, and --exec names one.", hint="Leave one of them out.")
    colours = session.out.color_system is not None and not session.out.no_color
    printer = LogPrinter(sys.stdout, sys.stderr, alone=exec_id is not None, colours=colours)

    async def work(client: AgentClient) -> bool:
        found = False
        async for entry in client.get(name).logs(exec_id, follow=follow, tail=NEWEST if tail is None else tail):
            found = True
            if session.json:
                session.line(entry)
            else:
                printer.show(entry)
        printer.close()
        return found

    if not connected(work) and not session.json:
        session.note("No commands to show.")
