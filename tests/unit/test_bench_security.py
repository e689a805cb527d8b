"""The benchmark of security: it knows the attacks that there are, and says what it found."""

from pathlib import Path

import pytest

from benchmarks import security_attacks
from benchmarks.bench_security import text_of
from deploy.setup.console import ROOT
from tests.security.attacks import ATTACKS

FIGURES = {
    "attacks": [
        {"attack": "mount", "runtime": "runc", "stopped": True},
        {"attack": "mount", "runtime": "runsc", "stopped": False},
        {"attack": "fork bomb", "runtime": "runc", "stopped": True},
    ],
    "controls": [{"attack": "io-uring", "runtime": "runc", "loosened": "seccomp", "stopped": False}],
    "overhead": {
        "by_runtime": {
            "runc": {
                "none": {
                    "plain_start_ms": 400.0,
                    "start_ms": 500.0,
                    "start_ratio": 1.25,
                    "plain_exec_ms": 60.0,
                    "exec_ms": 15.0,
                    "exec_ratio": 0.25,
                }
            }
        },
        "n_start": 15,
        "n_exec": 40,
    },
}


def test_every_attack_that_is_named_is_a_test() -> None:
    plan = security_attacks.planned(gvisor=True)
    for module, test in plan:
        text = (ROOT / security_attacks.FOLDER / f"{module}.py").read_text()
        assert f"async def {test.partition('[')[0]}(" in text, f"{module}: {test}"
    assert {name for name, runtime in plan.values() if runtime == "runc"} >= {attack.name for attack in ATTACKS}
    assert {runtime for _, runtime in plan.values()} == {"runc", "runsc"}
    assert {attack.name for attack in ATTACKS} >= security_attacks.BREACHING


def test_what_was_found_is_told() -> None:
    text = text_of(FIGURES)
    assert "| runc | 2 | 2 |\n| runsc | 0 | 1 |" in text
    assert "| mount | stopped | **NOT stopped** |" in text
    assert "| fork bomb | stopped | - |" in text
    assert "| io-uring | runc | seccomp | no |" in text
    assert "| runc | none | 400.0 | 500.0 | 1.25 | 60.0 | 15.0 | 0.25 |" in text


def test_an_attack_is_stopped_when_every_test_of_it_passed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    plan = {("test_a", "one"): ("first", "runc"), ("test_a", "two[x]"): ("second", "runc")}
    ended: dict[tuple[str, str], bool | None] = {
        ("test_a", "one[1]"): True,
        ("test_a", "one[2]"): False,
        ("test_a", "two[x]"): True,
    }

    def pretended(*_: object, **__: object) -> None:
        return

    def found(_: Path) -> dict[tuple[str, str], bool | None]:
        return ended

    monkeypatch.setattr("subprocess.run", pretended)
    monkeypatch.setattr(security_attacks, "verdicts", found)
    assert [(one.attack, one.stopped) for one in security_attacks.run(plan)] == [("first", False), ("second", True)]
    ended["test_a", "two[x]"] = None
    with pytest.raises(RuntimeError, match=r"two\[x\] was not run"):
        security_attacks.run(plan)
    file = tmp_path / "found.xml"
    file.write_text(
        '<testsuites><testsuite><testcase classname="tests.security.test_a" name="one"/>'
        '<testcase classname="tests.security.test_a" name="two"><failure/></testcase>'
        '<testcase classname="tests.security.test_a" name="three"><skipped/></testcase></testsuite></testsuites>'
    )
    monkeypatch.undo()
    assert list(security_attacks.verdicts(file).values()) == [True, False, None]
