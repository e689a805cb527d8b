"""The approval policy: which calls run, which wait, which are denied."""

import time

import pytest
from pydantic import ValidationError

from hibernaut.models import ApprovalRule, ApprovalSpec, ToolCall
from hibernaut.models.people import Verdict
from workflows.approvals import key_of, verdict


def call(*commands: str, cut: bool = False) -> ToolCall:
    return ToolCall(call_id="c", kind="shell_call", commands=commands, cut=cut)


def other(tool: str) -> ToolCall:
    return ToolCall(call_id="c", kind="function_call", tool=tool, arguments={})


RULES = ApprovalSpec(
    policy="rules",
    rules=(
        ApprovalRule(command="rm -rf /", then="deny"),
        ApprovalRule(command="git * --force", then="deny"),
        ApprovalRule(host="*.internal", then="deny"),
        ApprovalRule(host="example.org", then="ask"),
        ApprovalRule(command="curl *", then="allow"),
        ApprovalRule(command="ls *", then="allow"),
        ApprovalRule(tool="sleep", then="deny"),
    ),
)


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("ls -l", "allow"),
        ("ls -l; rm x", "ask"),
        ("ls $(rm x)", "ask"),
        ("ls x\nrm y", "ask"),
        ("sudo rm -rf / --no-preserve-root", "deny"),
        ("cd x && git push origin --force", "deny"),
        ("git push", "ask"),
        ("curl http://files.pythonhosted.test/x", "allow"),
        ("curl https://Vault.Internal/secret", "deny"),
        ("curl https://example.org", "ask"),
        ("curl https://notexample.org", "allow"),
        ("make", "ask"),
    ],
)
def test_the_first_rule_that_holds_decides(command: str, expected: Verdict) -> None:
    assert verdict(RULES, call(command), ()) == expected


def test_the_strictest_verdict_of_a_calls_commands_is_the_calls() -> None:
    assert verdict(RULES, call("ls -l", "make"), ()) == "ask"
    assert verdict(RULES, call("ls -l", "make", "rm -rf /"), ()) == "deny"


def test_what_is_not_seen_whole_is_asked_about() -> None:
    assert verdict(RULES, call("ls -l", cut=True), ()) == "ask"
    assert verdict(RULES, call("rm -rf /", cut=True), ()) == "deny"
    assert key_of(call("ls -l", cut=True)) == ""
    assert verdict(ApprovalSpec(policy="always"), call("ls", cut=True), ("",)) == "ask"


def test_tools_that_only_wait_need_no_consent_unless_a_rule_says_so() -> None:
    assert verdict(ApprovalSpec(policy="always"), other("ask_human"), ()) == "allow"
    assert verdict(RULES, other("wait_until"), ()) == "allow"
    assert verdict(RULES, other("sleep"), ()) == "deny"


def test_consent_for_good_is_for_the_very_same_commands() -> None:
    always = ApprovalSpec(policy="always")
    given = (key_of(call("make", "ls")),)
    assert verdict(always, call("make", "ls"), given) == "allow"
    assert verdict(always, call("make"), given) == "ask"
    assert verdict(always, call("make\0ls"), given) == "ask"


def test_a_hostile_command_costs_no_more_than_its_length() -> None:
    hostile = "git " * 4_000
    spec = ApprovalSpec(policy="rules", rules=(ApprovalRule(command="*git*git*git*git*x*", then="deny"),))
    began = time.process_time()
    assert verdict(spec, call(*[hostile] * 4), ()) == "ask"
    assert time.process_time() - began < 5


@pytest.mark.parametrize(
    "wrong",
    [
        {"policy": "always", "rules": [{"command": "x"}]},
        {"policy": "rules", "rules": [{"host": "x", "then": "allow"}]},
        {"policy": "rules", "rules": [{"tool": "sleep", "command": "x"}]},
        {"policy": "sometimes"},
    ],
)
def test_a_policy_that_would_not_hold_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        ApprovalSpec.model_validate(wrong)


def test_consent_for_good_to_a_tool_is_for_the_same_arguments() -> None:
    small = ToolCall(call_id="a", kind="function_call", tool="refund", arguments={"amount": 1})
    large = ToolCall(call_id="b", kind="function_call", tool="refund", arguments={"amount": 1_000_000})
    given = (key_of(small),)
    assert verdict(ApprovalSpec(), small, given, asks=True) == "allow"
    assert verdict(ApprovalSpec(), large, given, asks=True) == "ask"
    assert verdict(ApprovalSpec(policy="always"), large, given) == "ask"
    assert key_of(small.model_copy(update={"arguments": {"note": "x" * 9_000}})) == ""
