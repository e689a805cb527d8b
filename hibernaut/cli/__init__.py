"""The command line. Importing this loads neither typer nor rich nor Temporal: `main` does."""

import os
import sys

MISSING = "The command line needs two more libraries. Install them with: pip install 'hibernaut[cli]'"


def main() -> None:
    """Run the command line and end the process with its exit code."""
    try:
        from hibernaut.cli.app import run  # noqa: PLC0415  # the SDK alone must not need typer and rich
    except ModuleNotFoundError as error:
        if error.name not in {"typer", "rich"}:
            raise
        sys.stderr.write(f"{MISSING}\n")
        sys.exit(1)
    code = run(sys.argv[1:])
    _leave(code)


def _leave(code: int) -> None:
    """Flush and end at once: Temporal's client has threads that can crash an interpreter on its way out."""
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except OSError:
        # The reader of a pipe went away; there is nobody to tell.
        code = code or 1
    os._exit(code)
