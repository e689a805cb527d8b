"""How the tests are run: two halves at once, and a second look at what failed."""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PASSES = "def test_passes(): pass\n"
FAILS = "def test_fails(): assert 0, 'the reason'\n"
UNSTEADY = """
from pathlib import Path
import pytest

@pytest.mark.parametrize("n", range({count}))
def test_unsteady(n):
    seen = Path(__file__).with_name(f"seen-{{n}}")
    first = not seen.exists()
    seen.touch()
    assert not first, "the first reason"
"""


@dataclass
class Done:
    code: int
    output: str


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "pytest.ini").write_text("[pytest]\naddopts = -ra\n", encoding="utf-8")
    for name in ("heavy", "light"):
        (tmp_path / name).mkdir()
    return tmp_path


def write(folder: Path, **tests: str) -> None:
    for name, text in tests.items():
        part, _, rest = name.partition("_")
        (folder / part / f"test_{rest}.py").write_text(text, encoding="utf-8")


def suites(folder: Path, *arguments: str) -> Done:
    argv = [sys.executable, "-m", "tests.suites", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        argv, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, env=environment
    )
    return Done(done.returncode, done.stdout)


def test_both_halves_are_run_and_shown_apart(folder: Path) -> None:
    write(folder, heavy_a=PASSES, light_b=PASSES + PASSES.replace("passes", "too"))
    done = suites(folder, "--beside", "light", "--", "-p", "no:cacheprovider")
    heavy, _, light = done.output.partition("\n--- light\n")
    assert done.code == 0
    assert "1 passed" in heavy
    assert "2 passed" in light


@pytest.mark.parametrize("half", ["heavy", "light"])
def test_the_failure_of_either_half_is_that_of_the_whole(folder: Path, half: str) -> None:
    write(folder, heavy_a=PASSES, light_a2=PASSES, **{f"{half}_b": FAILS})
    done = suites(folder, "--beside", "light")
    assert done.code == 1
    assert f"FAILED {half}/test_b.py::test_fails" in done.output
    assert "SECOND LOOK" not in done.output


def test_a_half_without_tests_is_no_failure_but_nothing_at_all_is(folder: Path) -> None:
    write(folder, heavy_a=PASSES)
    assert suites(folder, "--beside", "light").code == 0
    assert suites(folder, "--beside", "light", "--", "-k", "nothing").code == 5


@pytest.mark.parametrize("count", [1, 3])
def test_what_passes_at_the_second_look_is_named_and_counts_no_more(folder: Path, count: int) -> None:
    write(folder, heavy_a=PASSES, light_b=UNSTEADY.format(count=count))
    done = suites(folder, "--beside", "light", "--second-look")
    assert done.code == 0
    assert "the first reason" in done.output
    assert done.output.count("\nUNSTEADY: light/test_b.py::test_unsteady[") == count
    assert f"{count} passed" in done.output.partition("A SECOND LOOK")[2], "alone: without those that passed"


def test_a_test_that_fails_twice_fails_the_suite(folder: Path) -> None:
    write(folder, heavy_a=FAILS, heavy_b=UNSTEADY.format(count=1))
    done = suites(folder, "--in", "heavy", "--second-look")
    assert done.code == 1
    assert "\nFAILED TWICE: heavy/test_a.py::test_fails\n" in done.output
    assert "UNSTEADY" not in done.output, "nothing is excused while something fails"


def test_more_than_three_failures_get_no_second_look(folder: Path) -> None:
    write(folder, heavy_a=UNSTEADY.format(count=2), light_b=UNSTEADY.format(count=2))
    done = suites(folder, "--beside", "light", "--second-look")
    assert done.code == 1
    assert "no second look: 4 failed" in done.output


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("import nothing_of_that_name\n", 2),
        ("import os\ndef test_a(): os._exit(1)\n", 1),
        ("import os\ndef test_a(): os._exit(7)\n", 7),
    ],
)
def test_what_is_no_failure_of_a_test_gets_no_second_look(folder: Path, text: str, code: int) -> None:
    write(folder, heavy_a=text, light_b=UNSTEADY.format(count=1))
    done = suites(folder, "--beside", "light", "--second-look")
    assert done.code == code
    assert "A SECOND LOOK" not in done.output


def test_an_error_of_a_fixture_is_looked_at_again_like_a_failure(folder: Path) -> None:
    text = UNSTEADY.format(count=1).replace("def test_unsteady(n)", "def the_fixture(n)")
    text = text.replace('@pytest.mark.parametrize("n", range(1))', "@pytest.fixture").replace("(n)", "()")
    write(folder, heavy_a=text.replace("{n}", "") + "\ndef test_b(the_fixture): pass\n")
    done = suites(folder, "--in", "heavy", "--second-look")
    assert done.code == 0
    assert "\nUNSTEADY: heavy/test_a.py::test_b failed" in done.output
