"""The spec of an agent: what a developer writes, in Python, YAML or JSON."""

from datetime import timedelta
from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator

from hibernaut.models.base import Model
from hibernaut.models.budget import BudgetSpec
from hibernaut.models.children import ChildrenSpec
from hibernaut.models.functions import MAX_FUNCTIONS, MAX_FUNCTIONS_BYTES, FunctionSpec
from hibernaut.models.isolation import IsolationSpec
from hibernaut.models.mcp import MAX_SERVERS, McpSpec, fault_of
from hibernaut.models.network import Network
from hibernaut.models.people import OFFERED, ApprovalSpec, ToolName
from hibernaut.models.secrets import SecretSpec, fault_of_hosts, fault_of_names, fault_of_network

DEFAULT_IMAGE = "hibernaut/sandbox:latest"

MAX_ENV_BYTES = 64_000
MAX_PATTERN_CHARACTERS = 8_000
MAX_NAME_BYTES = 255
"""Of a file; Linux allows no more."""

CARRIED = "carried"
"""As the context of a validation: the spec is one that an agent has lived with."""

RecoveryPolicy = Literal["tell", "replay", "pause"]

Runtime = Literal["runc", "runsc", "kata"]


class SnapshotSpec(Model):
    """How the files of a sandbox are kept."""

    compression: Annotated[int, Field(ge=1, le=19)] = 1
    """The zstd level: 1 is the fastest, 19 stores the least."""
    exclude: tuple[Annotated[str, Field(min_length=1, max_length=4_095)], ...] = Field(default=(), max_length=200)
    """Absolute paths that no snapshot holds, such as `/tmp` or `/home/*/.cache`: what a pattern matches, and all that
    lies below it, is as in the image after a wake. `*` and `?` stand for characters of one name, `**` for any number
    of names. A directory that matches is kept, empty of what was written below it. No other character is special."""
    max_bytes: Annotated[int, Field(ge=1_048_576, le=1_099_511_627_776)] | None = None
    """Limit of the content that differs from the image, in bytes, holes not counted; none by default."""

    @field_validator("exclude")
    @classmethod
    def _patterns(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        size = sum(len(pattern) for pattern in value)
        if size > MAX_PATTERN_CHARACTERS:
            # They travel with every request for a snapshot.
            msg = f"has {size} characters in all and the limit is {MAX_PATTERN_CHARACTERS}; use fewer patterns"
            raise ValueError(msg)
        for pattern in value:
            fault = _pattern_fault(pattern)
            if fault:
                msg = f"{pattern[:60]!r} {fault}"
                raise ValueError(msg)
        return value


def _pattern_fault(pattern: str) -> str | None:
    if not pattern.startswith("/"):
        return "must be an absolute path such as /tmp or /home/*/.cache"
    names = pattern[1:].split("/")
    if all(name in ("", "**") for name in names):
        return "stands for the whole file system, of which nothing would be kept"
    if "" in names:
        return "must not end with a slash, nor have two in a row"
    if "." in names or ".." in names:
        return "must not have the names . and .."
    if "\0" in pattern:
        return "must not have a NUL character"
    if any("**" in name and name != "**" for name in names):
        return "must have ** alone between slashes, as in /srv/**/node_modules"
    if any(len(name.encode("utf-8", "surrogatepass")) > MAX_NAME_BYTES for name in names):
        return f"has a name of more than {MAX_NAME_BYTES} bytes, which no file has"
    return None


class SandboxSpec(Model):
    """The computer of an agent: image, runtime and limits."""

    image: str = Field(default=DEFAULT_IMAGE, min_length=1)
    """A Docker image with `/bin/sh`; the first acquire pins its id for the agent's life."""
    runtime: Runtime = "runc"
    """The Docker runtime; the daemon must offer it."""
    cpus: Annotated[float, Field(gt=0, le=256)] = 1.0
    """CPU limit, in cores."""
    memory_mb: Annotated[int, Field(ge=16, le=1_048_576)] = 1024
    """Memory limit, in MiB; swap is not added to it."""
    pids: Annotated[int, Field(ge=16, le=65_536)] = 512
    """Limit of processes and threads."""
    disk_mb: Annotated[int, Field(ge=64, le=1_073_741_824)] | None = 10_240
    """Limit of what is written to disk, in MiB, over and above the image; None for none. Kept by the file system
    where Docker can (xfs with project quotas), else by a watch."""
    env: dict[str, str] = Field(default_factory=dict)
    """Variables set at the start. They are visible in the history: no secrets here."""
    workdir: str | None = None
    """Absolute path in which the first command runs; the image's own by default."""
    user: str | None = None
    """User (`name`, `uid` or `uid:gid`) that runs the commands; the image's own by default."""
    network: Network = Network()
    secrets: dict[str, SecretSpec] = Field(default_factory=dict)
    """Secrets by the name of the variable in the sandbox, which holds a placeholder; their values are the worker's."""
    isolation: IsolationSpec = IsolationSpec()
    """What its processes may ask of the kernel."""
    snapshots: SnapshotSpec = SnapshotSpec()

    @field_validator("workdir")
    @classmethod
    def _absolute(cls, value: str | None) -> str | None:
        if value is not None and not value.startswith("/"):
            msg = f"must be an absolute path such as /home/agent, not {value!r}"
            raise ValueError(msg)
        return value

    @field_validator("env")
    @classmethod
    def _names(cls, value: dict[str, str]) -> dict[str, str]:
        size = sum(len(name.encode()) + len(text.encode()) for name, text in value.items())
        if size > MAX_ENV_BYTES:
            msg = f"has {size} bytes in all and the limit is {MAX_ENV_BYTES}; put large values into a file"
            raise ValueError(msg)
        for name, text in value.items():
            if not name.isascii() or not name.replace("_", "a").isalnum() or name[:1].isdigit():
                msg = f"{name!r} is not a variable name: letters, digits and underscores, not first a digit"
                raise ValueError(msg)
            if "\0" in text:
                msg = f"the value of {name} holds a NUL byte, which no environment can carry"
                raise ValueError(msg)
        return value

    @field_validator("secrets")
    @classmethod
    def _secrets(cls, value: dict[str, SecretSpec], info: ValidationInfo) -> dict[str, SecretSpec]:
        if fault := fault_of_names(value, info.data.get("env", {})):
            raise ValueError(fault)
        return value


class AgentSpec(Model):
    """Everything an agent is started with.

    Attributes of time accept seconds as a number or an ISO 8601 duration (`PT10M`).
    """

    model: str = Field(min_length=1)
    """The model's name, as the provider knows it."""
    provider: str = Field(default="default", min_length=1)
    """Name of a provider configured on the worker; addresses and keys never enter a spec."""
    instructions: str = Field(default="", max_length=100_000)
    """System instructions: the first item of the conversation. At most 100,000 characters."""
    sandbox: SandboxSpec = SandboxSpec()
    idle_timeout: Annotated[timedelta, Field(gt=timedelta(0), le=timedelta(days=365))] = timedelta(minutes=10)
    """How long the container is kept with nothing to do before the agent hibernates; at most 365 days."""
    command_timeout: Annotated[timedelta, Field(gt=timedelta(0), le=timedelta(hours=24))] = timedelta(minutes=10)
    """Limit of a command for which the model names none."""
    max_output_length: Annotated[int, Field(ge=200, le=200_000)] = 16_384
    """Characters of each of stdout and stderr the model is shown, head and tail; the whole is kept in the store."""
    max_output_bytes: Annotated[int, Field(ge=1_048_576, le=1_099_511_627_776)] = 1_073_741_824
    """Bytes one command may write to stdout and stderr together before it is ended; 1 GiB by default."""
    recovery: RecoveryPolicy = "tell"
    """After a loss: `tell` the model, `replay` what was marked safe to retry and then tell it, or `pause`."""
    retry_safe: tuple[Annotated[str, Field(min_length=1, max_length=1_000)], ...] = Field(default=(), max_length=200)
    """Patterns of whole commands that may run twice, such as `pip install *`. `*` stands for any text without shell
    operators (`; & | < > ( ) $`, backquotes, newlines), so that no second command hides behind a safe one."""
    max_recoveries: Annotated[int, Field(ge=1, le=1_000)] = 5
    """Recoveries within one turn after which the agent pauses with the reason."""
    max_steps: Annotated[int, Field(ge=1, le=100_000)] = 500
    """Model calls a turn may take before it is ended with the reason."""
    budget: BudgetSpec = BudgetSpec()
    """What the agent may spend per turn, per day (UTC) and in its life before it pauses; no limits by default."""
    tools: tuple[ToolName, ...] = OFFERED
    """What the model is offered beside the shell: `sleep` and `wait_until` (wait without a container), `ask_human`,
    `publish` (a file, for people to download); and `start_agent` (child agents), which is offered only if named."""
    children: ChildrenSpec = ChildrenSpec()
    """How many agents it may start itself, with `start_agent`."""
    max_artifact_bytes: Annotated[int, Field(ge=1, le=1_099_511_627_776)] = 1_073_741_824
    """Bytes of a file that may be published; 1 GiB by default."""
    functions: tuple[FunctionSpec, ...] = Field(default=(), max_length=MAX_FUNCTIONS)
    """Function tools: Temporal activities on any task queue. Their declarations have at most 200,000 bytes as JSON."""
    mcp: tuple[McpSpec, ...] = Field(default=(), max_length=MAX_SERVERS)
    """MCP servers of the worker whose tools the model is offered, under names such as `github__get_issue`."""
    approval: ApprovalSpec = ApprovalSpec()
    """Which of the model's calls wait for a person's consent; none by default."""

    @field_validator("sandbox")
    @classmethod
    def _secrets(cls, value: SandboxSpec, info: ValidationInfo) -> SandboxSpec:
        fault = fault_of_network(value.secrets, value.network)
        # Of an agent that lives, rules may have changed: one that was taken away takes a secret's way, and must not
        # make the agent unreadable. JSON is what builds hand on.
        if info.mode == "python" and info.context != CARRIED:
            fault = fault or fault_of_hosts(value.secrets, value.network)
        if fault:
            msg = f"secrets: {fault}"
            raise ValueError(msg)
        return value

    @field_validator("functions")
    @classmethod
    def _functions(cls, value: tuple[FunctionSpec, ...]) -> tuple[FunctionSpec, ...]:
        names = [function.name for function in value]
        if len(names) != len(set(names)):
            twice = next(name for name in names if names.count(name) > 1)
            msg = f"has two functions named {twice!r}; a name is one tool's"
            raise ValueError(msg)
        size = sum(len(function.model_dump_json()) for function in value)
        if size > MAX_FUNCTIONS_BYTES:
            msg = f"has {size} bytes of declarations and the limit is {MAX_FUNCTIONS_BYTES}; shorten the schemas"
            raise ValueError(msg)
        return value

    @field_validator("mcp")
    @classmethod
    def _mcp(cls, value: tuple[McpSpec, ...], info: ValidationInfo) -> tuple[McpSpec, ...]:
        functions: tuple[FunctionSpec, ...] = info.data.get("functions", ())
        if fault := fault_of(value, [function.name for function in functions]):
            raise ValueError(fault)
        return value
