import json
from pathlib import Path

from tests.chaos import results
from tests.chaos.trial import FaultResult


def _run(fault: str, seconds: float | None, *, survived: bool = True, lost: int = 0, told: bool = True) -> FaultResult:
    return FaultResult(
        fault=fault, survived=survived, commands_twice=0, calls_lost=lost, told=told, seconds=seconds, leaked=0
    )


def test_the_table_has_a_row_for_each_fault(tmp_path: Path) -> None:
    runs = [_run("a", 3.0), _run("b", None, survived=False, lost=2, told=False), _run("a", 1.0, lost=1), _run("a", 2.0)]
    path = tmp_path / "faults.json"
    results.write(runs, path)
    rows = json.loads(path.read_text())
    assert rows == [
        {
            "fault": "a",
            "runs": 3,
            "survived": 3,
            "commands_twice": 0,
            "calls_lost": 1,
            "told": True,
            "seconds_median": 2.0,
        },
        {
            "fault": "b",
            "runs": 1,
            "survived": 0,
            "commands_twice": 0,
            "calls_lost": 2,
            "told": False,
            "seconds_median": None,
        },
    ]
    table = (tmp_path / "faults.md").read_text().splitlines()
    assert len(table) == 4
    assert table[2] == "| a | 3 | 3 | 0 | 1 | yes | 2.0 |"
    assert table[3] == "| b | 1 | 0 | 0 | 2 | no | - |"
