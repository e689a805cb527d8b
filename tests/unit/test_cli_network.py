"""`hibernaut network`: what it takes and what it shows."""

import json
from typing import Any

import pytest

from hibernaut._network import AgentNetwork
from hibernaut.cli import network as command
from hibernaut.cli.app import run
from hibernaut.cli.rules import network_changes
from hibernaut.models.network_change import NetworkChange, NetworkStatus

STATUS = NetworkStatus(
    mode="allowlist",
    allow=("example.com", "*.example.org"),
    of_spec=("example.com", "old.example"),
    in_force=False,
    failure="no proxy\x1b[2J",
)


class Pretended:
    """Workflows that remember what was asked of them."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, list[Any]]] = []

    async def query(self, agent_id: str, name: str, args: list[Any], result: type[object]) -> NetworkStatus:
        del agent_id, result
        self.asked.append((name, args))
        return STATUS

    update = query


@pytest.fixture
def workflows(monkeypatch: pytest.MonkeyPatch) -> Pretended:
    pretended = Pretended()

    class Handle:
        network = AgentNetwork("a", pretended)  # pyright: ignore[reportArgumentType]  # as much of it as is used

    class Client:
        def get(self, name: str) -> Handle:
            del name
            return Handle()

    def connected(work: Any) -> object:  # noqa: ANN401  # a coroutine function
        coroutine = work(Client())
        try:
            coroutine.send(None)
        except StopIteration as done:
            return done.value
        raise AssertionError("it waits")

    monkeypatch.setattr(command, "connected", connected)
    return pretended


def test_rules_are_shown_with_what_differs(workflows: Pretended, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["network", "show", "a"]) == 0
    said = capsys.readouterr()
    assert [line.split() for line in said.out.splitlines()] == [
        ["example.com"],
        ["+", "*.example.org"],
        ["-", "old.example"],
    ]
    assert "changed since the agent was started" in said.err
    assert "not taken them yet: no proxy" in said.err
    assert "\x1b" not in said.err
    assert workflows.asked == [("network", [])]


def test_programs_read_json(workflows: Pretended, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["network", "allow", "a", "*.example.org", "b.example:8443", "--by", "ann", "-o", "json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["added"], shown["removed"], shown["in_force"]) == (["*.example.org"], ["old.example"], False)
    wanted = NetworkChange(allow=("*.example.org", "b.example:8443"), by="ann")
    assert workflows.asked == [("set_network", [wanted])]


def test_hosts_are_denied(workflows: Pretended) -> None:
    assert run(["network", "deny", "a", "old.example", "--by", ""]) == 0
    assert workflows.asked == [("set_network", [NetworkChange(deny=("old.example",))])]


@pytest.mark.parametrize("verb", ["allow", "deny"])
def test_what_is_no_rule_is_a_usage_error(workflows: Pretended, verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["network", verb, "a", "https://example.com/path"]) == 2
    assert "is no rule for hosts: write example.com" in capsys.readouterr().err
    assert run(["network", verb, "a"]) == 2
    assert workflows.asked == []


@pytest.mark.parametrize(("mode", "told"), [("none", "mode none"), ("open", "everything"), ("allowlist", "is empty")])
def test_an_agent_without_rules_says_what_it_reaches(
    workflows: Pretended, monkeypatch: pytest.MonkeyPatch, mode: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    del workflows
    monkeypatch.setitem(globals(), "STATUS", NetworkStatus.model_validate({"mode": mode}))
    assert run(["network", "show", "a"]) == 0
    assert told in capsys.readouterr().out


def test_a_status_line_is_short() -> None:
    assert network_changes(STATUS).startswith("+*.example.org -old.example (not in force yet: no proxy")
    many = NetworkStatus(mode="allowlist", allow=tuple(f"h{number}.example" for number in range(20)))
    assert network_changes(many).endswith("+h7.example and 12 more")
