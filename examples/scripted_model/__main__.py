"""`python -m examples.scripted_model --port P --script FILE`: serve a script until interrupted."""

import argparse
import asyncio
import contextlib
import runpy
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import cast

from examples.scripted_model.host import ScriptedModel
from examples.scripted_model.steps import Script


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m examples.scripted_model", description=__doc__)
    parser.add_argument("--script", type=Path, required=True, help="Python file that defines SCRIPT or SCRIPTS")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free port")
    parser.add_argument("--model", default="scripted", help="the model name served (SCRIPTS: <model>:<name>)")
    parser.add_argument("--api-key", default="scripted-key", help="the bearer key asked for")
    return parser.parse_args()


def load(path: Path) -> Script | Mapping[str, Script]:
    """The script in a file: its SCRIPTS (several, by name) or its SCRIPT.

    Raises:
        SystemExit: the file is not there or defines neither.
    """
    if not path.is_file():
        raise SystemExit(f"{path} is not a file; give --script a Python file that defines SCRIPT.")
    found = runpy.run_path(str(path))
    script = found.get("SCRIPTS", found.get("SCRIPT"))
    if script is None:
        raise SystemExit(f"{path} defines neither SCRIPT nor SCRIPTS.")
    return cast("Script | Mapping[str, Script]", script)


async def _serve(arguments: argparse.Namespace) -> None:
    script = load(arguments.script)
    async with ScriptedModel(
        script, model=arguments.model, api_key=arguments.api_key, host=arguments.host, port=arguments.port
    ) as model:
        sys.stdout.write(f"scripted model at {model.base_url}\n")
        sys.stdout.flush()
        await model.wait()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_serve(_arguments()))
