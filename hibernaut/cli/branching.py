"""`hibernaut checkpoints`, `fork`, `rewind`: earlier steps, and going on from them."""

import re
import sys
from contextlib import nullcontext
from typing import Annotated

import typer
from rich.text import Text

from hibernaut.cli.columns import aligned
from hibernaut.cli.console import Format, session, size
from hibernaut.cli.live import LiveLine, watching
from hibernaut.cli.options import Name, Output, Seconds, connected
from hibernaut.client import AgentClient
from hibernaut.errors import InvalidRequest
from hibernaut.models import AgentStatus, Checkpoint

SHOWN = 60
"""Characters of what a step said."""
STEP = re.compile(r"(?:([0-9]{1,4}):)?([0-9]{1,9})")

Step = Annotated[
    str | None,
    typer.Option("--step", metavar="[BRANCH:]STEP", help="Which step, as `hibernaut checkpoints` lists them."),
]


def register(app: typer.Typer) -> None:
    """Add these commands."""
    for command in (checkpoints, fork, rewind):
        app.command()(command)


def checkpoints(name: Name, output: Output = Format.TEXT) -> None:
    """List the steps that can be forked at or rewound to."""
    del output

    async def work(client: AgentClient) -> list[Checkpoint]:
        return [point async for point in client.get(name).checkpoints()]

    found = connected(work)
    if session.json:
        session.data(found)
        return
    if not found:
        session.note(f"Agent {name} has finished no step yet.")
        return
    rows = [[Text(head) for head in ("STEP", "TURN", "TIME", "SNAPSHOT", "FILES", "SIZE", "WHAT")]]
    rows += [_row(point) for point in found]
    session.out.print(aligned(rows, right={0, 1, 3, 4, 5}))


def fork(
    name: Name,
    new: Annotated[str, typer.Argument(metavar="NEW", help="The new agent's id.")],
    *,
    step: Step = None,
    output: Output = Format.TEXT,
) -> None:
    """Make a new agent that goes on from a step of another.

    By default from the newest that is finished. The other may run, sleep or be closed; no file is copied.
    """
    del output
    branch, number = _step(step) if step is not None else (None, None)

    async def work(client: AgentClient) -> AgentStatus:
        return await (await client.get(name).fork(new, number, branch=branch)).status()

    status = connected(work)
    if session.json:
        session.data(status)
        return
    origin = status.forked_from
    at = f" at step {origin.branch}:{origin.step}" if origin is not None else ""
    session.out.print(f"Agent {new} is a fork of {name}{at}.")


def rewind(
    name: Name,
    *,
    step: Annotated[
        str, typer.Option("--step", metavar="[BRANCH:]STEP", help="Which step, as `hibernaut checkpoints` lists them.")
    ],
    interrupt: Annotated[bool, typer.Option("--interrupt", help="End the turn under way first.")] = False,
    discard: Annotated[
        bool,
        typer.Option("--discard", help="Take no last snapshot: what was done since the newest one is lost."),
    ] = False,
    timeout: Seconds = None,
    output: Output = Format.TEXT,
) -> None:
    """Go back to the end of a step.

    Conversation and files are as they were then. The steps after it remain on a branch of their own, and can be gone
    back to. Where no snapshot of the present state can be taken (of too large files, say), --discard goes back all the
    same.
    """
    del output
    branch, number = _step(step)
    line = LiveLine(over=sys.stderr.isatty())

    async def work(client: AgentClient) -> AgentStatus:
        agent = client.get(name)
        async with watching(agent, line.show) if sys.stderr.isatty() and not session.json else nullcontext():
            return await agent.rewind(number, branch=branch, interrupt=interrupt, discard=discard, timeout=timeout)

    status = connected(work)
    if session.json:
        session.data(status)
    else:
        session.out.print(f"Agent {name} is back at step {number}; it goes on as branch {status.branch}.")


def _step(text: str) -> tuple[int | None, int]:
    found = STEP.fullmatch(text)
    if found is None:
        raise InvalidRequest(f"{text[:40]!r} is no step.", hint="Say `12`, or `0:12` for step 12 of branch 0.")
    return (int(found[1]) if found[1] is not None else None), int(found[2])


def _row(point: Checkpoint) -> list[Text]:
    files = point.snapshot
    held = [str(files.number), str(files.files), size(files.bytes_total)] if files is not None else ["-", "-", "-"]
    if not point.kept:
        held[0] = f"{held[0]} pruned"
    cells = [point.name, str(point.turn), f"{point.at:%Y-%m-%d %H:%M:%S}", *held, point.summary[:SHOWN]]
    return [Text(cell, style="" if point.kept else "dim") for cell in cells]
