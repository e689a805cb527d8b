"""The spec of an agent: what a developer writes, in Python, YAML or JSON."""

from datetime import timedelta
from typing import Annotated, Literal

from pydantic import Field, field_validator

from hibernaut.models.base import Model

DEFAULT_IMAGE = "hibernaut/sandbox:latest"

MAX_ENV_BYTES = 64_000

RecoveryPolicy = Literal["tell", "replay", "pause"]

Runtime = Literal["runc", "runsc", "kata"]


class Network(Model):
    """What of the network a sandbox may reach."""

    mode: Literal["none", "open"] = "none"
    """`none`: a loopback device and nothing else. `open`: Docker's default bridge."""


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
    env: dict[str, str] = Field(default_factory=dict)
    """Variables set at the start. They are visible in the history: no secrets here."""
    workdir: str | None = None
    """Absolute path in which the first command runs; the image's own by default."""
    user: str | None = None
    """User (`name`, `uid` or `uid:gid`) that runs the commands; the image's own by default."""
    network: Network = Network()

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
