"""`hibernaut artifacts`: what an agent published."""

from datetime import timedelta
from pathlib import Path, PurePosixPath
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from hibernaut.cli.console import Format, clean, session, size
from hibernaut.cli.options import Name, Output, connected
from hibernaut.cli.render import ago
from hibernaut.client import AgentClient
from hibernaut.errors import InvalidRequest
from hibernaut.models import Artifact, ArtifactLink

app = typer.Typer(help="List, download, link to what an agent published.", no_args_is_help=True)
Id = Annotated[str, typer.Argument(metavar="ID", help="An artifact's id, as the list has it.")]


@app.command("ls")
def ls(name: Name, output: Output = Format.TEXT) -> None:
    """List an agent's artifacts, the oldest first."""
    del output

    async def work(client: AgentClient) -> list[Artifact]:
        return await client.get(name).artifacts.list()

    found = connected(work)
    if session.json:
        session.data(found)
    elif found:
        session.out.print(_table(found))
    else:
        session.note(f"Agent {name} has published nothing.")


@app.command("get")
def get(
    name: Name,
    artifact: Id,
    local: Annotated[Path | None, typer.Argument(metavar="[LOCAL]", help="Where to; its own name here.")] = None,
    *,
    output: Output = Format.TEXT,
) -> None:
    """Download an artifact."""
    del output

    async def work(client: AgentClient) -> tuple[Path, int]:
        artifacts = client.get(name).artifacts
        target = local
        if target is None or target.is_dir():
            known = {one.id: one.name for one in await artifacts.list()}
            # A name is the model's: nothing of it may lead out of the folder.
            own = PurePosixPath(known.get(artifact, artifact)).name or "download"
            target = (target or Path()) / own
            if target.exists():
                raise InvalidRequest(f"{target} is there already.", hint="Name the local file to replace it.")
        return target, await artifacts.download(artifact, target)

    target, read = connected(work)
    if session.json:
        session.data({"artifact": artifact, "local": str(target), "size": read})
    else:
        session.out.print(f"{clean(str(target))}: {size(read)}")


@app.command("link")
def link(
    name: Name,
    artifact: Id,
    hours: Annotated[float, typer.Option("--hours", min=0.01, max=168.0, help="How long it lasts.")] = 1.0,
    output: Output = Format.TEXT,
) -> None:
    """Print a link with which anyone can download an artifact."""
    del output

    async def work(client: AgentClient) -> ArtifactLink:
        return await client.get(name).artifacts.link(artifact, expires=timedelta(hours=hours))

    made = connected(work)
    if session.json:
        session.data(made)
    else:
        session.text(made.url)


def _table(found: list[Artifact]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("ID", "NAME", "SIZE", "PUBLISHED", "DESCRIPTION"):
        table.add_column(column, overflow="fold")
    for one in found:
        cells = (one.id, one.name, size(one.size), ago(one.published_at), one.description)
        table.add_row(*(Text(clean(cell)) for cell in cells))
    return table
