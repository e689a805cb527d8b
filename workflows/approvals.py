"""Which of the model's calls wait for a person: the spec's approval policy, applied to one call."""

import hashlib
import json
import re
from collections.abc import Iterable

from hibernaut.models import ApprovalRule, ApprovalSpec, ToolCall
from hibernaut.models.people import Verdict
from workflows.safety import is_safe

KEPT_CONSENTS = 200
SHOWN = 8_000
"""Characters of a call that a person is shown."""
HARMLESS = frozenset({"sleep", "wait_until", "ask_human"})
_STRICTEST: tuple[Verdict, ...] = ("deny", "ask", "allow")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]*")


def verdict(spec: ApprovalSpec, call: ToolCall, consented: Iterable[str], *, asks: bool = False) -> Verdict:
    """What the policy, or a person for good, says to a call; `asks`: a tool that never runs without consent."""
    key = key_of(call)
    if key and key in consented:
        return "allow"
    said = _of_call(spec, call)
    return "ask" if asks and said == "allow" else said


def _of_call(spec: ApprovalSpec, call: ToolCall) -> Verdict:
    if spec.policy == "never":
        return "allow"
    if spec.policy == "always":
        # Waiting and asking do nothing that anybody could object to.
        return "allow" if call.tool in HARMLESS else "ask"
    if call.tool != "shell":
        rule = next((rule for rule in spec.rules if rule.tool in (None, call.tool) and _names_no_command(rule)), None)
        if rule is not None:
            return rule.then
        return "allow" if call.tool in HARMLESS else spec.default
    said = {_of_command(spec, command) for command in call.commands}
    if call.cut:
        # What is not seen whole cannot be allowed by its beginning.
        said.add("ask")
    for one in _STRICTEST:
        if one in said:
            return one
    return spec.default


def key_of(call: ToolCall) -> str:
    """What stands for the very same call, for consent that is given for good; empty for one not shown whole."""
    if call.cut or len(shown(call)) > SHOWN:
        return ""
    said = json.dumps([call.tool, call.commands, call.arguments], sort_keys=True)
    return hashlib.sha256(said.encode()).hexdigest()


def shown(call: ToolCall) -> str:
    """What a person reads of a call before it runs."""
    if call.tool == "shell":
        return "\n".join(call.commands)
    asked = (call.arguments or {}).items()
    return f"{call.tool}({', '.join(f'{json.dumps(name)[1:-1]}={json.dumps(value)}' for name, value in asked)})"


def _names_no_command(rule: ApprovalRule) -> bool:
    return rule.command is None and rule.host is None


def _of_command(spec: ApprovalSpec, command: str) -> Verdict:
    for rule in spec.rules:
        if rule.tool in (None, "shell") and _holds(rule, command):
            return rule.then
    return spec.default


def _holds(rule: ApprovalRule, command: str) -> bool:
    if rule.host is not None and not any(_is_host(rule.host, name) for name in _NAME.findall(command)):
        return False
    if rule.command is None:
        return True
    if rule.then == "allow":
        return is_safe(command, (rule.command,))
    return _occurs(rule.command, command)


def _occurs(pattern: str, command: str) -> bool:
    """Whether the parts between the stars stand in the command one after the other, wherever; in linear time."""
    place = 0
    for part in pattern.split("*"):
        found = command.find(part, place)
        if found < 0:
            return False
        place = found + len(part)
    return True


def _is_host(pattern: str, name: str) -> bool:
    pattern, name = pattern.lower(), name.lower().rstrip(".")
    return name.endswith(pattern[1:]) if pattern.startswith("*.") else name == pattern
