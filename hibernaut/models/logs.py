"""What commands wrote: the answers of the gateway's `exec` routes, and what `AgentHandle.logs` yields."""

from datetime import datetime
from typing import Literal

from pydantic import Field

from hibernaut.models.base import Open
from hibernaut.models.tools import CommandOutcome

Stream = Literal["stdout", "stderr"]


class LoggedCommand(Open):
    """One command whose output can be read."""

    exec_id: str
    command: str
    """Its first 400 characters at least; 200 while it runs."""
    outcome: CommandOutcome | None = None
    """None while it runs, or while its tool call goes on."""
    told_at: datetime | None = None
    """When its end became an event."""


class LoggedCommands(Open):
    """The newest commands, the newest last."""

    commands: tuple[LoggedCommand, ...]
    last_event: int
    """Commands that end later are told by events after this number."""


class LogStart(Open):
    """From here on, output of this command."""

    type: Literal["command"] = "command"
    exec_id: str
    command: str
    """Its first characters, 200 at least."""


class LogChunk(Open):
    """A piece of what a command wrote; the pieces of one stream are in order and without gaps."""

    type: Literal["output"] = "output"
    exec_id: str
    stream: Stream
    offset: int
    """Bytes of this stream before it."""
    text: str
    """Decoded from UTF-8, the rest as U+FFFD. A character cut in two is in the later piece."""
    data: bytes = Field(exclude=True, repr=False)
    """The bytes themselves; not part of the JSON."""


class LogEnd(Open):
    """A command ended, and all it wrote was told."""

    type: Literal["end"] = "end"
    exec_id: str
    outcome: CommandOutcome
    missing: str = ""
    """Why some of the output is not there, when it is not."""


LogEntry = LogStart | LogChunk | LogEnd
