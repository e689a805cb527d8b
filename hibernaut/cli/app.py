"""The root command: global options, all subcommands, and the one place where errors become sentences."""

import os
import sys
import traceback
from typing import Annotated, Any

import typer

from hibernaut import __version__
from hibernaut.cli import (
    agents,
    artifacts,
    branching,
    budget,
    certificates,
    doctor,
    filing,
    logs,
    network,
    people,
    schedules,
    snapshots,
    steering,
)
from hibernaut.cli.console import FAILED, INTERRUPTED, Format, exit_code, session
from hibernaut.errors import HibernautError

app = typer.Typer(
    name="hibernaut",
    help="Durable agents with a computer that survives.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode=None,
)
agents.register(app)
logs.register(app)
people.register(app)
steering.register(app)
branching.register(app)
budget.register(app)
doctor.register(app)
app.add_typer(artifacts.app, name="artifacts")
app.add_typer(certificates.app, name="certificate")
app.add_typer(filing.app, name="files")
app.add_typer(snapshots.app, name="snapshots")
app.add_typer(schedules.app, name="schedule")
app.add_typer(network.app, name="network")


def _version(value: bool) -> None:  # noqa: FBT001  # typer's callback
    if value:
        typer.echo(f"hibernaut {__version__}")
        raise typer.Exit


@app.callback()
def root(
    *,
    address: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="Temporal's address; else TEMPORAL_ADDRESS.")
    ] = None,
    namespace: Annotated[str | None, typer.Option(help="Temporal's namespace; else TEMPORAL_NAMESPACE.")] = None,
    _version_asked: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Keep what holds for every command."""
    session.address, session.namespace = address, namespace


def run(arguments: list[str]) -> int:
    """Run one command line.

    Returns:
        The exit code: 0 done, 1 failed, 2 usage or an invalid spec, 3 not found, 4 needs approval, 130 interrupted.
    """
    # Seen before the arguments are parsed, so that even a failure to connect is told in the format asked for.
    session.format = Format.JSON if _wants_json(arguments) else Format.TEXT
    try:
        app(args=arguments, prog_name="hibernaut")
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else FAILED
        return _interrupted() if code == INTERRUPTED else code
    except HibernautError as error:
        session.error(error)
        return exit_code(error)
    except KeyboardInterrupt:
        return _interrupted()
    except BrokenPipeError:
        # The reader has seen enough, as in `hibernaut follow x | head`; the final flush must not complain again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except Exception as error:  # noqa: BLE001  # whatever it is, a user gets a sentence
        return _unexpected(error)
    return 0


def _interrupted() -> int:
    session.note("Interrupted. What the agent is doing goes on.")
    return INTERRUPTED


def _unexpected(error: Exception) -> int:
    if os.environ.get("HIBERNAUT_DEBUG"):
        traceback.print_exc()
    kind: Any = type(error).__name__
    session.error(
        HibernautError(
            f"Something went wrong that should not have: {kind}: {error}",
            hint="Run it again with HIBERNAUT_DEBUG=1 for the details to report.",
        )
    )
    return FAILED


def _wants_json(arguments: list[str]) -> bool:
    pairs = zip(arguments, [*arguments[1:], ""], strict=True)
    return any(
        argument in {"-ojson", "--output=json"} or (argument in {"-o", "--output"} and value == "json")
        for argument, value in pairs
    )
