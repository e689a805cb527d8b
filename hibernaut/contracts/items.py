"""Items on their way into a conversation, small enough for the history."""

from typing import Annotated, Literal

from pydantic import Field, JsonValue

from hibernaut.models.base import Open
from hibernaut.models.tools import CommandOutcome, RecoveryReport


class Instructions(Open):
    """The spec's instructions: the first item of a conversation."""

    kind: Literal["instructions"] = "instructions"
    text: str = ""
    text_ref: str | None = None


class UserMessage(Open):
    """A message to the agent; `text_ref` replaces a text too long for the history."""

    kind: Literal["user"] = "user"
    message_id: str
    text: str = ""
    text_ref: str | None = None


class Note(Open):
    """Something the engine tells the model, as a developer item."""

    kind: Literal["note"] = "note"
    text: str
    report: RecoveryReport | None = None
    urgent: bool = False
    """Whether the model has to hear of it before anything else that it asked for may run."""


class ToolResult(Open):
    """The answer to one tool call: a record in the store, or, when nothing ran, the outcomes or the error itself."""

    kind: Literal["tool_result"] = "tool_result"
    call_id: str
    call_kind: str
    record_ref: str | None = None
    outcomes: tuple[CommandOutcome, ...] = ()
    error: str | None = None
    output: JsonValue | None = None
    """What a tool that is not the shell returned."""
    function: str | None = None
    """The function tool that returned it: its schema decides what the model is told."""
    max_output_length: int | None = None
    """What the call asked for; the native shell tool wants it echoed."""


NewItem = Annotated[Instructions | UserMessage | Note | ToolResult, Field(discriminator="kind")]
