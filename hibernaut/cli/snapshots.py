"""`hibernaut snapshots`: what was kept of an agent's computer, and what changed."""

from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from hibernaut.cli import snapshot_tables as tables, upkeep
from hibernaut.cli.console import Format, plain, session
from hibernaut.cli.options import Name, Output, connected
from hibernaut.client import AgentClient
from hibernaut.errors import InvalidRequest
from hibernaut.models import ChangeKind, SnapshotDetail, SnapshotPage, SnapshotPath, SnapshotSummary

NEWEST = 20
MOST = 200
HELP_FLAGS = ("-h", "--help")
Which = Annotated[str, typer.Argument(metavar="N", help="Its number, a name it was given, or latest.")]


class ListsByDefault(TyperGroup):
    """`snapshots AGENT` is `snapshots ls AGENT`, unless an agent bears the name of a command."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # noqa: ANN401  # typer keeps the type to itself
        """Take what is no command for the arguments of `ls`."""
        if args and args[0] not in self.commands and args[0] not in HELP_FLAGS:
            args = ["ls", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=ListsByDefault,
    help="List, show, compare an agent's snapshots: `snapshots NAME` lists.",
    no_args_is_help=True,
    subcommand_metavar="[COMMAND] NAME [ARGS]...",
)


@app.command("ls")
def ls(
    name: Name,
    *,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=MOST, help="So many, the newest first.")] = NEWEST,
    before: Annotated[int | None, typer.Option(min=1, metavar="N", help="Only those with a lower number.")] = None,
    every: Annotated[bool, typer.Option("--all", help="All there are.")] = False,
    output: Output = Format.TEXT,
) -> None:
    """List the snapshots, the newest first."""
    del output

    async def work(client: AgentClient) -> SnapshotPage:
        snapshots = client.get(name).snapshots
        if not every:
            return await snapshots.page(before=before, limit=limit)
        found: list[SnapshotSummary] = []
        begin, total = before, 0
        while True:
            page = await snapshots.page(before=begin, limit=MOST)
            found, begin, total = [*found, *page.snapshots], page.before, max(total, page.total)
            if begin is None:
                return SnapshotPage(snapshots=tuple(found), total=total)

    page = connected(work)
    if session.json:
        session.data(page)
        return
    if not page.snapshots:
        session.note("No snapshots.")
        return
    session.out.print(tables.snapshots_table(page.snapshots))
    for snapshot in page.snapshots:
        if snapshot.damage:
            session.note(f"snapshot {snapshot.number}: {snapshot.damage}")
    if page.before is not None:
        session.note(f"{len(page.snapshots)} of {page.total}; --before {page.before} goes on, --all shows every one")


@app.command("show")
def show(
    name: Name,
    which: Which = "latest",
    *,
    files: Annotated[bool, typer.Option("--files", help="Every path in which it differs from its image, too.")] = False,
    output: Output = Format.TEXT,
) -> None:
    """Show all there is to say of one snapshot."""
    del output

    async def work(client: AgentClient) -> tuple[SnapshotDetail, list[SnapshotPath]]:
        snapshots = client.get(name).snapshots
        detail = await snapshots.show(which)
        found = [path async for path in snapshots.paths(which)] if files and not detail.damage else []
        return detail, found

    detail, paths = connected(work)
    if session.json:
        session.data({**plain(detail), "paths": plain(paths)} if files else detail)
        return
    session.out.print(tables.detail_table(detail))
    if paths:
        session.out.print()
        session.out.print(tables.paths_table(paths))


@app.command("diff")
def diff(
    name: Name,
    first: Annotated[str, typer.Argument(metavar="A", help="A number, a name, latest, or image for the image alone.")],
    second: Annotated[
        str | None, typer.Argument(metavar="[B]", help="The later one; else what A changed over the one before it.")
    ] = None,
    *,
    output: Output = Format.TEXT,
) -> None:
    """Show the paths in which two snapshots differ: + added, ~ changed, - deleted."""
    del output
    if first == "image" and second is None:
        raise InvalidRequest("The image is no snapshot.", hint="Say what to compare it with: `diff NAME image latest`.")
    before, after = (None, first) if second is None else (first, second)
    counts = dict.fromkeys(ChangeKind, 0)

    async def work(client: AgentClient) -> None:
        async for change in client.get(name).snapshots.diff(before, after):
            counts[change.change] += 1
            if session.json:
                session.line(change)
            else:
                session.out.print(tables.change_line(change))

    connected(work)
    if not session.json:
        session.note(", ".join(f"{count} {kind.value}" for kind, count in counts.items()))


upkeep.register(app)
