"""A pytest plugin: writes down which tests failed, one id a line, for whoever wants to run those again."""

from pathlib import Path

import pytest

NO_TEST = "!"
"""Begins the line of a failure that is no test's: nothing can be run again alone."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--failures-to", type=Path, default=None, help="write the ids of the tests that failed here")


def pytest_configure(config: pytest.Config) -> None:
    if (file := config.getoption("failures_to")) is not None:
        config.pluginmanager.register(Failures(file))


class Failures:
    """Those of one session."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._failed: dict[str, None] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self._failed[report.nodeid] = None

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self._failed[f"{NO_TEST} {report.nodeid}"] = None

    def pytest_sessionfinish(self) -> None:
        self._file.write_text("".join(f"{one}\n" for one in self._failed), encoding="utf-8")
