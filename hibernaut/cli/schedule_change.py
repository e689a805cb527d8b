"""`hibernaut schedule update`: the options of `create`, none of which has a default."""

from datetime import timedelta
from typing import Annotated

import typer

from hibernaut._amounts import parse_amount
from hibernaut.cli.console import Format, session
from hibernaut.cli.options import Model, Output, Spec, connected, read_text
from hibernaut.cli.schedule_tables import show_schedule
from hibernaut.client import AgentClient
from hibernaut.errors import InvalidRequest
from hibernaut.models.schedules import OverlapPolicy, ScheduleStatus
from hibernaut.schedules import UNCHANGED
from hibernaut.specfile import load_spec


def update(  # noqa: PLR0913  # a command's options are its parameters
    name: Annotated[str, typer.Argument(metavar="NAME", help="The schedule's name.")],
    *,
    cron: Annotated[str | None, typer.Option("--cron", help="When, as '0 9 * * MON', @daily or '@every 90m'.")] = None,
    message: Annotated[
        str | None, typer.Option("--message", "-m", help="What is sent, or - for standard input.")
    ] = None,
    timezone: Annotated[str | None, typer.Option("--timezone", help="IANA name in which --cron is meant.")] = None,
    agent: Annotated[str | None, typer.Option("--agent", help="Send to this agent, from now on.")] = None,
    spec: Spec = None,
    model: Model = None,
    overlap: Annotated[
        OverlapPolicy | None, typer.Option("--overlap", help="What happens while an earlier firing is open.")
    ] = None,
    catchup_window: Annotated[
        str | None,
        typer.Option("--catchup-window", metavar="TIME", help="Make up for what was due while the server was down."),
    ] = None,
    jitter: Annotated[
        str | None, typer.Option("--jitter", metavar="TIME", help="Start up to this much later; 0 for none.")
    ] = None,
    keep: Annotated[
        int | None, typer.Option("--keep", min=1, metavar="N", help="With a spec: agents that are kept.")
    ] = None,
    keep_all: Annotated[bool, typer.Option("--keep-all", help="With a spec: keep every agent.")] = False,
    run_timeout: Annotated[
        str | None, typer.Option("--run-timeout", metavar="TIME", help="Give a firing up after this long; none: never.")
    ] = None,
    note: Annotated[str | None, typer.Option("--note", help="Shown wherever the schedule is.")] = None,
    output: Output = Format.TEXT,
) -> None:
    """Change a schedule: what is given, and nothing else.

    A firing under way goes on as it began. Agents stay, and a paused schedule stays paused. TIME is like 90s, 1h30m or
    2d; a number alone is seconds.
    """
    del output
    if model is not None and spec is None:
        raise InvalidRequest("--model takes the place of the model in --spec FILE.", hint="Say --spec FILE too.")
    if keep is not None and keep_all:
        raise InvalidRequest("Say --keep N or --keep-all.", hint="One of the two, and not both.")
    text = None if message is None else read_text(message)
    wanted = None if spec is None else load_spec(spec, {"model": model})

    async def work(client: AgentClient) -> ScheduleStatus:
        schedule = client.schedules.get(name)
        await schedule.update(
            cron=cron,
            message=text,
            agent=agent,
            spec=wanted,
            timezone=timezone,
            overlap=overlap,
            catchup_window=None if catchup_window is None else length(catchup_window),
            jitter=None if jitter is None else length(jitter),
            keep=None if keep_all else UNCHANGED if keep is None else keep,
            run_timeout=_limit(run_timeout) if run_timeout is not None else UNCHANGED,
            note=note,
        )
        return await schedule.describe()

    changed = connected(work)
    if session.json:
        session.data(changed)
    else:
        session.out.print(show_schedule(changed))


def _limit(text: str) -> timedelta | None:
    return None if text == "none" else length(text)


def length(text: str) -> timedelta:
    """A length of time: `90`, `90s`, `1h30m`, `2d`.

    Raises:
        InvalidRequest: it is none.
    """
    try:
        found = parse_amount("wall_time", text)
    except (ValueError, OverflowError) as error:
        raise InvalidRequest(f"{text!r} is no length of time.", hint="Say 90s, 1h30m or 2d.") from error
    return found if isinstance(found, timedelta) else timedelta(seconds=float(found))
