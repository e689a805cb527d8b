"""People in the loop: which calls need a person's consent, and what an agent waits for."""

from datetime import datetime, timedelta
from enum import StrEnum
from typing import Annotated, Literal, get_args

from pydantic import Field, model_validator

from hibernaut.models.base import Model, Open

ToolName = Literal["sleep", "wait_until", "ask_human", "publish", "start_agent"]
TOOLS: tuple[ToolName, ...] = get_args(ToolName)
"""The engine's own tools beside the shell."""
OFFERED: tuple[ToolName, ...] = tuple(name for name in TOOLS if name != "start_agent")
"""Those that an agent has whose spec names none."""
MAX_RULES = 200
MAX_RESPONSE = 20_000
"""Characters of a person's answer to the agent."""

Verdict = Literal["allow", "ask", "deny"]


class ApprovalRule(Model):
    """One rule of an approval policy. What it names must all hold; a rule that names nothing holds for every call."""

    tool: Annotated[str, Field(min_length=1, max_length=64)] | None = None
    """`shell` or another tool's name."""
    command: Annotated[str, Field(min_length=1, max_length=1_000)] | None = None
    """Pattern of a shell command, in which `*` stands for any text. Under `allow` it must match the command as a whole,
    and `*` stands for no shell operator (`; & | < > ( ) $`, backquotes, newlines); under `ask` and `deny` it is enough
    that it matches a part."""
    host: Annotated[str, Field(min_length=1, max_length=255)] | None = None
    """Pattern of a host name that a command's text names, such as `*.example.org`. It reads the text alone: what a
    script contacts by itself is a matter of `sandbox.network`. Not under `allow`."""
    then: Verdict = "ask"

    @model_validator(mode="after")
    def _fits(self) -> "ApprovalRule":
        if self.then == "allow" and self.host is not None:
            raise ValueError("a host that a command names is no ground to allow it; allow by `command` or `tool`")
        if self.tool not in (None, "shell") and (self.command is not None or self.host is not None):
            raise ValueError("only the shell has a command; leave `tool` out or say `shell`")
        return self


class ApprovalSpec(Model):
    """Which of the model's calls wait for a person's consent."""

    policy: Literal["never", "always", "rules"] = "never"
    """`never` asks nobody; `always` asks about every call; `rules` goes by `rules`."""
    rules: tuple[ApprovalRule, ...] = Field(default=(), max_length=MAX_RULES)
    """The first that holds decides, for each command of a call; the strictest verdict is the call's."""
    default: Verdict = "ask"
    """What holds under `rules` when no rule does."""
    timeout: Annotated[timedelta, Field(gt=timedelta(0), le=timedelta(days=365))] | None = None
    """How long a call waits for a person; without it, for as long as it takes."""
    on_timeout: Literal["approve", "deny"] = "deny"

    @model_validator(mode="after")
    def _rules_apply(self) -> "ApprovalSpec":
        if self.rules and self.policy != "rules":
            raise ValueError(f"`rules` hold under the policy `rules` alone, and this one is {self.policy!r}")
        return self


class WaitKind(StrEnum):
    """What a call waits for."""

    APPROVAL = "approval"
    QUESTION = "question"
    TIME = "time"
    AGENT = "agent"
    """A child agent's answer."""


class Waiting(Open):
    """The call of a turn that waits. It costs no container: after the idle timeout the agent hibernates."""

    kind: WaitKind
    call_id: str
    tool: str
    text: str
    """What would run, what is asked, why it waits, or a child's task."""
    cut: bool = False
    """Whether there is more of it than `text`."""
    choices: tuple[str, ...] = ()
    since: datetime
    until: datetime | None = None
    """When it is decided without a person, or the time has come."""
    agent_id: str = ""
    """The child agent whose answer is waited for."""


class ApproveRequest(Model):
    """The argument of the update `approve`."""

    call_id: str | None = None
    """The call that is meant; without it the one that waits."""
    always: bool = False
    """Whether the very same call (its commands, or its tool and arguments) is never asked about again."""
    by: str = Field(default="", max_length=200)
    """Who decided, as the caller says."""


class DenyRequest(Model):
    """The argument of the update `deny`."""

    call_id: str | None = None
    reason: str = Field(default="", max_length=2_000)
    """Told to the model."""
    by: str = Field(default="", max_length=200)


class RespondRequest(Model):
    """The argument of the update `respond`: a person's answer to `ask_human`."""

    text: str = Field(min_length=1, max_length=MAX_RESPONSE)
    call_id: str | None = None
    by: str = Field(default="", max_length=200)
