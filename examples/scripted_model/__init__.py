"""A model that does what a script says, served over HTTP in the provider's wire formats.

It checks every request against the `openai` package's types and refuses what the real API would refuse.
"""

from examples.scripted_model.conversation import Call, CommandResult, Conversation, Said
from examples.scripted_model.host import ScriptedModel
from examples.scripted_model.server import Recorded
from examples.scripted_model.steps import (
    CallSpec,
    Reply,
    Script,
    Step,
    calls,
    context_overflow,
    cut_stream,
    garbage,
    hang,
    http_error,
    malformed,
    odd_action,
    refuse,
    respond,
    say,
    shell,
    slow,
    stop_short,
)

__all__ = [
    "Call",
    "CallSpec",
    "CommandResult",
    "Conversation",
    "Recorded",
    "Reply",
    "Said",
    "Script",
    "ScriptedModel",
    "Step",
    "calls",
    "context_overflow",
    "cut_stream",
    "garbage",
    "hang",
    "http_error",
    "malformed",
    "odd_action",
    "refuse",
    "respond",
    "say",
    "shell",
    "slow",
    "stop_short",
]
