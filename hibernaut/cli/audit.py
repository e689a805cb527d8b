"""`hibernaut audit show|verify|export`: what agents and hosts did, and whether the record of it is whole."""

import sys
from collections import deque
from collections.abc import AsyncGenerator, Generator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, TextIO

import typer
from rich.text import Text

from hibernaut._audit_chain import SEQ_DIGITS, canonical
from hibernaut.cli.columns import aligned
from hibernaut.cli.console import FAILED, Format, clean, plain, session
from hibernaut.cli.options import Output, connected
from hibernaut.client import AgentClient
from hibernaut.errors import FileMissing, InvalidRequest
from hibernaut.models.audit import AuditLine, AuditReport

app = typer.Typer(name="audit", help="The audit log of agents and hosts.", no_args_is_help=True)

Agent = Annotated[
    str | None,
    typer.Argument(metavar="[NAME]", help="The agent's id, or the uid of a deleted one.", show_default=False),
]
Host = Annotated[str | None, typer.Option("--host", metavar="ID", help="A sandbox host instead.")]
NEWEST = 50


@app.command()
def show(
    agent: Agent = None,
    *,
    host: Host = None,
    since: Annotated[
        str | None, typer.Option("--since", metavar="LINE|TIME", help="From this line, or this time (ISO 8601), on.")
    ] = None,
    kind: Annotated[
        list[str] | None, typer.Option("--kind", metavar="KIND", help="Such as exec or approval; once for each.")
    ] = None,
    number: Annotated[
        int | None, typer.Option("-n", "--number", min=1, help=f"So many of the newest; {NEWEST} by default.")
    ] = None,
    output: Output = Format.TEXT,
) -> None:
    """Show lines of an audit log, the oldest first."""
    del output
    begin, after = _since(since)
    wanted = tuple(kind or ())

    most = (number or NEWEST) if since is None or number is not None else None

    async def work(client: AgentClient) -> deque[AuditLine]:
        found = deque[AuditLine](maxlen=most)
        async for one in client.audit.lines(agent, host=host):
            if one.seq >= begin and one.at >= after and _of_kind(one, wanted):
                found.append(one)
        return found

    lines = connected(work)
    if session.json:
        for line in lines:
            session.line(line)
    elif lines:
        session.out.print(aligned([_row(line) for line in lines], right={0}))
    else:
        session.note("No lines to show.")


@app.command()
def verify(
    agent: Agent = None,
    *,
    host: Host = None,
    every: Annotated[bool, typer.Option("--all", help="Every agent and every host.")] = False,
    output: Output = Format.TEXT,
) -> None:
    """Read a whole audit log and check that nothing is missing, added or changed.

    The exit code is 1 when something is wrong; the first of it is named.
    """
    del output
    if [agent is not None, host is not None, every].count(True) != 1:
        raise InvalidRequest("Say which audit log to verify: an agent's, --host ID, or --all.")

    async def work(client: AgentClient) -> list[AuditReport]:
        reports: list[AuditReport] = []
        found = client.audit.verify_all() if every else _one(client, agent, host)
        async for report in found:
            reports.append(report)
            if not session.json:
                # At once: there may be many, and one that cannot be asked must not hide what was found of the others.
                _tell(report)
        return reports

    reports = connected(work)
    sound = all(report.sound for report in reports)
    if session.json:
        chains = [{"sound": report.sound, **plain(report)} for report in reports]
        session.data({"sound": sound, "chains": chains} if every else chains[0])
    if not sound:
        raise typer.Exit(FAILED)


@app.command()
def export(
    agent: Agent = None,
    *,
    host: Host = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FILE", help="A new file; standard output by default.")
    ] = None,
) -> None:
    """Write an audit log, a line of JSON for each of its lines, as it is in the store."""

    async def copy(client: AgentClient, file: TextIO) -> int:
        count = 0
        async for _, text in client.audit.texts(agent, host=host):
            file.write(f"{text}\n")
            count += 1
        return count

    async def work(client: AgentClient) -> int:
        if output is None:
            return await copy(client, sys.stdout)
        with _new_file(output) as file:
            return await copy(client, file)

    count = connected(work)
    if output is not None:
        session.note(f"{count} lines written to {output}")


@contextmanager
def _new_file(path: Path) -> Generator[TextIO]:
    """A file that is there when the block has ended, and not at all when it failed.

    Raises:
        InvalidRequest: there is one already.
        FileMissing: it cannot be written.
    """
    try:
        with path.open("x", encoding="utf-8", newline="\n") as file:
            try:
                yield file
            except BaseException:
                path.unlink(missing_ok=True)
                raise
    except FileExistsError:
        raise InvalidRequest(f"{path} exists already.", hint="Name a new file.") from None
    except OSError as error:
        raise FileMissing(f"{path} cannot be written: {error.strerror}.") from error


async def _one(client: AgentClient, agent: str | None, host: str | None) -> AsyncGenerator[AuditReport]:
    yield await client.audit.verify(agent, host=host)


def _since(text: str | None) -> tuple[int, datetime]:
    """The line and the time from which on lines are wanted."""
    begin = datetime.min.replace(tzinfo=UTC)
    if text is None:
        return 0, begin
    if text.isascii() and text.isdecimal() and len(text) <= SEQ_DIGITS:
        return int(text), begin
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        hint = "A line's number, or a time such as 2026-01-31 or 2026-01-31T12:00:00Z."
        raise InvalidRequest(f"--since {text[:40]!r} is neither a number nor a time.", hint=hint) from None
    return 0, at if at.tzinfo is not None else at.replace(tzinfo=UTC)


def _of_kind(line: AuditLine, wanted: tuple[str, ...]) -> bool:
    """Whether a line is of one of these kinds, or of one below it: `approval` has `approval.decided`."""
    return not wanted or any(line.kind == one or line.kind.startswith(f"{one}.") for one in wanted)


def _row(line: AuditLine) -> list[Text]:
    facts = [f"{name}={_shown(value)}" for name, value in line.facts.items() if name not in {"event", "turn"}]
    facts += [f"{name}:{digest.rpartition(':')[2][:12]}" for name, digest in line.digests.items()]
    return [
        Text(str(line.seq), style="dim"),
        Text(f"{line.at.astimezone(UTC):%Y-%m-%d %H:%M:%S}"),
        Text(clean(line.kind), style="bold"),
        Text(clean(" ".join(facts))),
    ]


def _shown(value: object) -> str:
    return value if isinstance(value, str) else canonical({"": value})[4:-1]


def _tell(report: AuditReport) -> None:
    name = clean(f"{report.chain} ({report.agent_id})" if report.agent_id else report.chain)
    if report.problem is None:
        how = "its end is anchored" if report.anchored else "no workflow is left that knows its end"
        session.out.print(Text(f"{name}: sound, {report.lines} lines in {report.parts} parts, {how}"))
    else:
        problem = report.problem
        where = f" (part {problem.part})" if problem.part else ""
        told = f"{name}: {problem.trouble.value} at line {problem.seq}: {problem.detail}{where}"
        session.out.print(Text(clean(told), style="bold red"))
    for note in report.notes:
        session.out.print(Text(clean(f"  {note}")))
    if report.pending:
        session.note(f"{report.pending} newest events of {report.agent_id} are not in its chain yet")
