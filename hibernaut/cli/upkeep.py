"""`hibernaut snapshots verify|prune|collect|name|unname`: what keeps the store of snapshots small and sound."""

import sys
from collections.abc import Awaitable, Callable
from typing import Annotated, TypeVar

import typer

from hibernaut._upkeep import Tell
from hibernaut.agent import AgentHandle
from hibernaut.cli import upkeep_tables as tables
from hibernaut.cli.console import FAILED, Format, plain, session
from hibernaut.cli.live import LiveLine
from hibernaut.cli.options import Name, Output, connected
from hibernaut.client import AgentClient
from hibernaut.contracts import NameResult, PruneResult, Retention, UpkeepProgress
from hibernaut.errors import InvalidRequest, SnapshotMissing

T = TypeVar("T")

Label = Annotated[str, typer.Argument(metavar="LABEL", help="Up to 64 letters, digits, dots, dashes and underscores.")]


def register(app: typer.Typer) -> None:
    """Add these commands."""
    app.command("verify")(verify)
    app.command("prune")(prune)
    app.command("collect")(collect)
    app.command("name")(name)
    app.command("unname")(unname)


def verify(
    agent: Annotated[str | None, typer.Argument(metavar="[NAME]", help="The agent's id.", show_default=False)] = None,
    *,
    every: Annotated[bool, typer.Option("--all", help="Every agent in the store, and the base images.")] = False,
    output: Output = Format.TEXT,
) -> None:
    """Read and check all that snapshots need.

    The exit code is 1 when something is wrong; which snapshots of which agent it affects is listed.
    """
    del output
    if (agent is None) != every:
        raise InvalidRequest("Say which agent to verify, or --all.", hint="One of the two, and not both.")
    result = _watched(lambda client, tell: client.snapshots.verify(agent, progress=tell))
    if session.json:
        session.data({"sound": result.sound, **plain(result)})
    else:
        session.out.print(tables.verified_table(result))
        for line in tables.damage_lines(result):
            session.out.print(line)
        session.note(tables.verified_summary(result))
    if not result.sound:
        raise typer.Exit(FAILED)


def prune(
    agent: Name,
    *,
    keep_last: Annotated[int | None, typer.Option(min=0, metavar="N", help="The newest N.")] = None,
    keep_hourly: Annotated[int | None, typer.Option(min=0, metavar="N", help="The newest of each of N hours.")] = None,
    keep_daily: Annotated[int | None, typer.Option(min=0, metavar="N", help="The newest of each of N days.")] = None,
    keep_weekly: Annotated[int | None, typer.Option(min=0, metavar="N", help="The newest of each of N weeks.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", "-n", help="Only say what would be removed.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    output: Output = Format.TEXT,
) -> None:
    """Remove snapshots that no rule keeps.

    Without a rule, those of the worker's settings hold.

    Always kept: the newest and the one before it, the one that the agent goes on from, those younger than an hour,
    those with a name, and those that one of these builds on.
    """
    del output
    given = {"last": keep_last, "hourly": keep_hourly, "daily": keep_daily, "weekly": keep_weekly}
    rules = {rule: count for rule, count in given.items() if count is not None}
    keep = Retention.model_validate(rules) if rules else None

    def pruned(*, dry_run: bool) -> PruneResult:
        return _watched(lambda client, tell: client.snapshots.prune(agent, keep, dry_run=dry_run, progress=tell))

    if not dry_run and not yes:
        if not sys.stdin.isatty():
            raise InvalidRequest(
                "Pruning cannot be undone, and nobody is there to ask.", hint="Say --yes or --dry-run."
            )
        plan = pruned(dry_run=True)
        if plan.removed_count:
            _show_pruned(plan, err=True)
            typer.confirm(f"Remove {tables.count(plan.removed_count, 'snapshot')} of {agent}?", abort=True, err=True)
    result = pruned(dry_run=dry_run)
    if session.json:
        session.data(result)
    else:
        _show_pruned(result, err=False)


def collect(
    *,
    prune: Annotated[
        bool, typer.Option("--prune", help="First prune every agent's snapshots as the worker's settings say.")
    ] = False,
    output: Output = Format.TEXT,
) -> None:
    """Give back the space of removed snapshots.

    The worker's schedule does that by itself. What is found now is deleted by a collection after the grace: a day,
    unless the worker's settings say otherwise.
    """
    del output
    result = _watched(lambda client, tell: client.snapshots.collect(prune=prune, progress=tell))
    if session.json:
        session.data(result)
        return
    session.out.print(tables.collected_table(result, pruned=prune))
    for line in tables.collection_troubles(result):
        session.note(line)


def name(
    agent: Name,
    which: Annotated[str, typer.Argument(metavar="N", help="Which snapshot: its number, or latest.")],
    label: Label,
    *,
    move: Annotated[bool, typer.Option("--move", help="Take the name from another snapshot that has it.")] = False,
    output: Output = Format.TEXT,
) -> None:
    """Name a snapshot, which keeps it."""
    del output

    async def work(client: AgentClient) -> NameResult:
        handle = client.get(agent)
        number = (await _newest(handle)) if which == "latest" else _number(which)
        return await handle.snapshots.name(number, label, move=move)

    result = connected(work)
    if session.json:
        session.data(result)
    else:
        session.out.print(f"Snapshot {result.number} of {agent} is named {label}.")


def unname(agent: Name, label: Label, output: Output = Format.TEXT) -> None:
    """Take a name away.

    The snapshot itself stays until a pruning removes it.
    """
    del output

    async def work(client: AgentClient) -> bool:
        return await client.get(agent).snapshots.unname(label)

    changed = connected(work)
    if session.json:
        session.data({"name": label, "changed": changed})
    else:
        told = "is no longer used" if changed else "was not used"
        session.out.print(f"The name {label} {told} for a snapshot of {agent}.")


async def _newest(agent: AgentHandle) -> int:
    snapshot = (await agent.status()).snapshot
    if snapshot is None:
        raise SnapshotMissing(f"Agent {agent.id} has no snapshot yet.")
    return snapshot.number


def _number(which: str) -> int:
    if not (which.isascii() and which.isdecimal()):
        raise InvalidRequest(f"{which!r} is no number of a snapshot.", hint="`hibernaut snapshots NAME` lists them.")
    return int(which)


def _watched(work: Callable[[AgentClient, Tell], Awaitable[T]]) -> T:
    """Do the work, with a line on standard error that says how far it is."""
    line = LiveLine(over=sys.stderr.isatty())

    def tell(progress: UpkeepProgress) -> None:
        if not session.json:
            line.say(tables.progress_text(progress))

    async def run(client: AgentClient) -> T:
        return await work(client, tell)

    try:
        return connected(run)
    finally:
        line.clear()


def _show_pruned(result: PruneResult, *, err: bool) -> None:
    console = session.err if err else session.out
    console.print(tables.pruned_table(result))
    session.note(tables.pruned_summary(result))
