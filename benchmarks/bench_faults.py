"""The fault table: each case of the chaos suite, several times, judged as the suite judges it.

The cases live with the tests (`tests/chaos/`), which this starts: the figures are those of what CI checks.
"""

import os
import subprocess
import sys

from benchmarks.report import RESULTS
from deploy.setup.console import ROOT

RUNS = 3


def main() -> None:
    """Run every fault `CHAOS_RUNS` times (3 by default); write `results/faults.json` and `results/faults.md`.

    Raises:
        SystemExit: A fault was not survived as it should be; the table is written all the same.
    """
    RESULTS.mkdir(exist_ok=True)
    table = RESULTS / "faults.json"
    environ = {"CHAOS_RUNS": str(RUNS), **os.environ, "CHAOS_RESULTS": str(table)}
    command = [sys.executable, "-m", "pytest", "tests/chaos/test_faults.py", "-m", "chaos", "-q"]
    ended = subprocess.run(command, cwd=ROOT, env=environ, check=False).returncode
    if table.exists():
        print(table.with_suffix(".md").read_text())
    if ended != 0:
        raise SystemExit(ended)
