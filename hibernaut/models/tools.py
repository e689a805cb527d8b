"""Tool calls and what became of them."""

from enum import StrEnum
from typing import Literal

from pydantic import JsonValue

from hibernaut.models.base import Open


class ToolCall(Open):
    """One call the model asked for, small enough for the history."""

    call_id: str
    kind: str
    """`shell_call` (native tool) or `function_call` (function tool): the item type that must answer it."""
    commands: tuple[str, ...] = ()
    """The shell commands, in order; cut to their first 2,000 characters when `cut`."""
    cut: bool = False
    """Whether a command was cut here; the whole is read from the transcript segment."""
    timeout_ms: int | None = None
    max_output_length: int | None = None
    retry_safe: bool = False
    """Whether the model marked the call as safe to run again (function tools only)."""
    tool: str = "shell"
    """Name of the tool; of any but the shell `arguments` has what it is asked."""
    arguments: dict[str, JsonValue] | None = None
    """Valid arguments of a tool that is not the shell."""
    error: str | None = None
    """Why the call cannot run (malformed arguments, unknown tool); told to the model instead of running it."""


class OutcomeKind(StrEnum):
    """How a command ended."""

    EXIT = "exit"
    TIMEOUT = "timeout"
    INTERRUPTED = "interrupted"
    """Ended because somebody interrupted the turn; its partial output is kept."""
    CANCELLED = "cancelled"
    """Ended because the agent was closed or its workflow cancelled; its partial output is kept."""
    UNKNOWN = "unknown"
    """It may or may not have taken effect: it was started and its end was not seen."""
    NOT_RUN = "not_run"


class CommandOutcome(Open):
    """What became of one command, as the history and the events show it."""

    exec_id: str
    command: str
    """First 2,000 characters."""
    kind: OutcomeKind
    exit_code: int | None = None
    stdout_head: str = ""
    """First 300 characters."""
    stderr_head: str = ""
    stdout_bytes: int = 0
    stderr_bytes: int = 0
    truncated: bool = False
    """Whether the model was shown head and tail only."""
    duration_ms: int = 0
    background: tuple[str, ...] = ()
    """Processes the command left running, each `PID NAME`; at most 20. They end with the sandbox."""
    detail: str = ""
    """What is known beyond the kind: why a command is unknown, what ended it."""
    command_digest: str = ""
    """Of the whole command and of all that it wrote, for the audit log; empty when an older build ran it."""
    stdout_digest: str = ""
    stderr_digest: str = ""


class ReplayedCommand(Open):
    """A lost command, marked safe to retry, that was run again after a recovery (`recovery: replay`)."""

    command: str
    kind: OutcomeKind
    exit_code: int | None = None

    @property
    def end(self) -> str:
        """How it ended, as a word."""
        return f"exit {self.exit_code}" if self.kind is OutcomeKind.EXIT else self.kind.value


class RecoveryReport(Open):
    """What survived a loss: an item of the conversation, an event, and a line of the status."""

    format: Literal["hibernaut-recovery/1"] = "hibernaut-recovery/1"
    how: Literal["restored", "restarted"] = "restored"
    """`restored`: a new container from a snapshot. `restarted`: the same container, its files as they were."""
    host_id: str = ""
    """Where the sandbox goes on."""
    rungs: tuple[str, ...] = ()
    """The recovery steps that were taken, in order, each with what it found."""
    replayed: tuple[ReplayedCommand, ...] = ()
    """Lost commands that were run again."""

    reason: str
    generation: int
    """Generation of the sandbox that goes on."""
    restored_snapshot: int | None
    """Number of the snapshot it was restored from; none: a fresh computer from the image."""
    requested_snapshot: int | None = None
    """The snapshot that should have been restored, when a damaged one was passed over."""
    lost_commands: tuple[str, ...] = ()
    """Commands that ran after the restored snapshot: their effects on files are gone."""
    uncertain_commands: tuple[str, ...] = ()
    """Commands that may or may not have taken effect outside the sandbox; their effects inside are gone."""

    def render(self) -> str:
        """The report as the model reads it."""
        lines = ["[hibernaut] recovery report", f"What happened: {self.reason}."]
        if self.how == "restarted":
            lines.append(
                "The same computer was started again: files, installed packages, working directory and exported "
                "variables are as they were when it stopped."
            )
        elif self.restored_snapshot is None:
            lines.append("There was no snapshot yet: the computer is a fresh one from its image.")
        else:
            lines.append(
                f"The computer was restored from snapshot {self.restored_snapshot}: files, installed packages, "
                "working directory and exported variables are as they were then."
            )
        if self.requested_snapshot is not None and self.requested_snapshot != self.restored_snapshot:
            lines.append(
                f"Snapshot {self.requested_snapshot} was damaged and could not be used: what only it held is lost."
            )
        if self.lost_commands:
            lines.append("The effects of these commands, which ran after it, are lost:")
            lines.extend(f"  $ {command}" for command in self.lost_commands)
        elif self.requested_snapshot in {None, self.restored_snapshot}:
            lines.append("No finished command's effects were lost.")
        if self.uncertain_commands:
            inside = (
                "what they did inside, whole or in part, is there"
                if self.how == "restarted"
                else "their effects inside are gone"
            )
            lines.append(
                f"These commands may have run and may or may not have taken effect outside the computer; {inside}:"
            )
            lines.extend(f"  $ {command}" for command in self.uncertain_commands)
        if self.replayed:
            lines.append("These of them were marked safe to retry, and were run again in this order:")
            lines.extend(f"  $ {done.command} -> {done.end}" for done in self.replayed)
        lines.append("Processes that ran in the background run no more.")
        return "\n".join(lines)
