"""`hibernaut doctor`: what this machine offers as a sandbox host, and what is missing for each thing it does not."""

import os
from typing import Annotated

import typer
from rich.text import Text

from hibernaut._doctor import Check, examine
from hibernaut.cli.columns import aligned
from hibernaut.cli.console import FAILED, Format, clean, session
from hibernaut.cli.options import Output
from hibernaut.models.spec import DEFAULT_IMAGE

_STYLES = {"ok": "green", "missing": "yellow", "failed": "bold red"}


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("doctor")(doctor)


def doctor(
    *,
    docker: Annotated[
        str | None, typer.Option(metavar="URL", help="The Docker daemon; else HIBERNAUT_DOCKER_HOST, DOCKER_HOST.")
    ] = None,
    output: Output = Format.TEXT,
) -> None:
    """Say what this machine offers as a sandbox host.

    Asks its Docker daemon, and changes nothing. The exit code is 1 when no agent could run here.
    """
    del output
    image = os.environ.get("HIBERNAUT_SANDBOX_IMAGE") or DEFAULT_IMAGE
    checks = examine(docker or os.environ.get("HIBERNAUT_DOCKER_HOST"), image)
    ready = all(check.state != "failed" for check in checks)
    if session.json:
        session.data({"ready": ready, "checks": checks})
    else:
        session.out.print(aligned([_row(check) for check in checks]))
        for check in checks:
            if check.hint:
                session.note(f"{check.name}: {check.hint}")
        session.note("Agents can run here." if ready else "No agent can run here.")
    if not ready:
        raise typer.Exit(FAILED)


def _row(check: Check) -> list[Text]:
    return [Text(check.state, style=_STYLES[check.state]), Text(check.name), Text(clean(check.found))]
