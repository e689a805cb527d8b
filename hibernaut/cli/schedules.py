"""`hibernaut schedule create|ls|show|update|pause|resume|trigger|backfill|delete`."""

import sys
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Annotated
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import typer

from hibernaut.cli.console import Format, session
from hibernaut.cli.options import Model, Output, Spec, connected, read_text
from hibernaut.cli.schedule_change import length, update
from hibernaut.cli.schedule_tables import schedules_table, show_schedule, zoned
from hibernaut.client import AgentClient
from hibernaut.errors import InvalidRequest
from hibernaut.models.schedules import OverlapPolicy, ScheduleStatus, ScheduleSummary
from hibernaut.schedules import KEEP, ScheduleHandle
from hibernaut.specfile import load_spec

app = typer.Typer(help="Messages that recur.", no_args_is_help=True)
app.command()(update)

Name = Annotated[str, typer.Argument(metavar="NAME", help="The schedule's name.")]
Overlap = Annotated[
    OverlapPolicy | None,
    typer.Option("--overlap", help="What happens while an earlier firing is open.", show_default=False),
]
Note = Annotated[str, typer.Option("--note", help="Shown wherever the schedule is.")]


@app.command()
def create(  # noqa: PLR0913  # a command's options are its parameters
    name: Name,
    *,
    cron: Annotated[str, typer.Option("--cron", help="When, as '0 9 * * MON', @daily or '@every 90m'.")],
    message: Annotated[str, typer.Option("--message", "-m", help="What is sent, or - for standard input.")],
    timezone: Annotated[str, typer.Option("--timezone", help="IANA name in which --cron is meant.")] = "UTC",
    agent: Annotated[str | None, typer.Option("--agent", help="Send to this agent.")] = None,
    spec: Spec = None,
    model: Model = None,
    overlap: Annotated[
        OverlapPolicy, typer.Option("--overlap", help="What happens while an earlier firing is open.")
    ] = OverlapPolicy.BUFFER_ONE,
    catchup_window: Annotated[
        str,
        typer.Option("--catchup-window", metavar="TIME", help="Make up for what was due while the server was down."),
    ] = "1d",
    jitter: Annotated[str, typer.Option("--jitter", metavar="TIME", help="Start up to this much later.")] = "0",
    keep: Annotated[int, typer.Option("--keep", min=1, metavar="N", help="With --spec: agents that are kept.")] = KEEP,
    keep_all: Annotated[bool, typer.Option("--keep-all", help="With --spec: keep every agent.")] = False,
    run_timeout: Annotated[
        str | None, typer.Option("--run-timeout", metavar="TIME", help="Give a firing up after this long.")
    ] = None,
    paused: Annotated[bool, typer.Option("--paused", help="Do not start it yet.")] = False,
    note: Note = "",
    output: Output = Format.TEXT,
) -> None:
    """Send a message again and again.

    With --agent the same agent goes on each time; with --spec each firing starts a fresh one, and closes it when it has
    answered. TIME is like 90s, 1h30m or 2d; a number alone is seconds.
    """
    del output
    if (agent is None) == (spec is None):
        raise InvalidRequest("Say --agent NAME or --spec FILE.", hint="One of the two, and not both.")
    text = read_text(message)
    wanted = None if spec is None else load_spec(spec, {"model": model})

    async def work(client: AgentClient) -> ScheduleStatus:
        made = await client.schedules.create(
            name, cron=cron, timezone=timezone, message=text, agent=agent, spec=wanted, overlap=overlap,
            catchup_window=length(catchup_window), jitter=length(jitter), keep=None if keep_all else keep,
            run_timeout=None if run_timeout is None else length(run_timeout), paused=paused, note=note,
        )  # fmt: skip
        return await made.describe()

    made = connected(work)
    if session.json:
        session.data(made)
        return
    first = f"first {zoned(made.next[0], made.timezone)}" if made.next else "paused"
    session.out.print(f"Created schedule {name}: {first}.")


@app.command("ls")
def ls(output: Output = Format.TEXT) -> None:
    """List schedules."""
    del output

    async def work(client: AgentClient) -> list[ScheduleSummary]:
        return [schedule async for schedule in client.schedules.list()]

    schedules = sorted(connected(work), key=lambda one: one.name)
    if session.json:
        session.data(schedules)
    elif schedules:
        session.out.print(schedules_table(schedules))
    else:
        session.note("No schedules.")


@app.command()
def show(name: Name, output: Output = Format.TEXT) -> None:
    """Show a schedule, its next firings and what became of the newest."""
    del output
    status = connected(lambda client: client.schedules.get(name).describe())
    if session.json:
        session.data(status)
    else:
        session.out.print(show_schedule(status))


@app.command()
def pause(name: Name, *, note: Note = "", output: Output = Format.TEXT) -> None:
    """Fire no more until resumed; what runs goes on."""
    del output
    _do(name, lambda one: one.pause(note), {"paused": True}, "is paused")


@app.command()
def resume(name: Name, *, note: Note = "", output: Output = Format.TEXT) -> None:
    """Fire again; what was due meanwhile is not made up for."""
    del output
    _do(name, lambda one: one.resume(note), {"paused": False}, "is active")


@app.command()
def trigger(name: Name, *, overlap: Overlap = None, output: Output = Format.TEXT) -> None:
    """Fire now, paused or not."""
    del output
    _do(name, lambda one: one.trigger(overlap), {"triggered": True}, "was triggered")


@app.command()
def backfill(
    name: Name,
    *,
    start: Annotated[str, typer.Option("--from", metavar="WHEN", help="The first time, itself included.")],
    end: Annotated[str, typer.Option("--to", metavar="WHEN", help="The last time; now by default.")] = "",
    overlap: Annotated[OverlapPolicy, typer.Option("--overlap", help="One after another by default.")] = (
        OverlapPolicy.BUFFER_ALL
    ),
    output: Output = Format.TEXT,
) -> None:
    """Fire for times of the past.

    WHEN is a date and time, such as 2026-11-30T09:00, in the schedule's time zone unless it names its own.
    """
    del output

    async def work(client: AgentClient) -> int:
        schedule = client.schedules.get(name)
        zone = (await schedule.describe()).timezone
        last = when(end, zone, latest=True) if end else datetime.now(UTC)
        return await schedule.backfill(when(start, zone), last, overlap)

    count = connected(work)
    if session.json:
        session.data({"name": name, "firings": count})
    else:
        session.out.print(f"Schedule {name} fires for {count:,} time{'' if count == 1 else 's'} of the past.")


@app.command()
def delete(
    name: Name,
    *,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    output: Output = Format.TEXT,
) -> None:
    """Delete a schedule; a firing under way goes on, and agents stay."""
    del output
    if not yes:
        if not sys.stdin.isatty():
            raise InvalidRequest("Deleting cannot be undone, and nobody is there to ask.", hint="Say --yes.")
        typer.confirm(f"Delete schedule {name}?", abort=True, err=True)
    _do(name, lambda one: one.delete(), {"deleted": True}, "is deleted")


def _do(name: str, action: Callable[[ScheduleHandle], Awaitable[None]], data: dict[str, bool], told: str) -> None:
    async def work(client: AgentClient) -> None:
        await action(client.schedules.get(name))

    connected(work)
    if session.json:
        session.data({"name": name, **data})
    else:
        session.out.print(f"Schedule {name} {told}.")


def when(text: str, timezone: str, *, latest: bool = False) -> datetime:
    """A moment, in a time zone unless the text names its own.

    Args:
        text: In ISO 8601.
        timezone: IANA name.
        latest: Of a time that comes twice because clocks go back, the second.

    Raises:
        InvalidRequest: it is none.
    """
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError as error:
        raise InvalidRequest(f"{text!r} is no date and time.", hint="Say 2026-11-30T09:00, or ...09:00Z.") from error
    if moment.tzinfo is not None:
        return moment
    try:
        zone = ZoneInfo(timezone)
        first, second = (moment.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1))
    except (ZoneInfoNotFoundError, ValueError, OSError, OverflowError) as error:
        problem = f"{text!r} in the time zone {timezone} is no moment that this machine knows."
        raise InvalidRequest(problem, hint="Say the time with its offset: 2026-11-30T09:00+01:00.") from error
    # A time that the clocks leave out is what they show instead: `second` is before it then.
    return max(first, second) if latest else first
