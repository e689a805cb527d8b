"""The engine's own tools beside the shell: what the model is told of them, and what their arguments must be."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Annotated, Any

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field

from hibernaut.models.children import MAX_TASK, Computer

LONGEST_S = 365 * 24 * 3600
"""Seconds that a tool may wait at most: a year."""

Json = dict[str, Any]


class _Arguments(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class SleepArguments(_Arguments):
    """Arguments of `sleep`."""

    seconds: Annotated[float, Field(gt=0, le=LONGEST_S, description="How long; 86400 is a day.")]
    reason: Annotated[str, Field(max_length=500, description="What you wait for, in a few words.")] = ""


class WaitUntilArguments(_Arguments):
    """Arguments of `wait_until`."""

    time: Annotated[
        AwareDatetime,
        Field(description="ISO 8601 with a UTC offset, such as 2026-03-02T09:00:00+01:00; at most a year ahead."),
    ]
    reason: Annotated[str, Field(max_length=500, description="What you wait for, in a few words.")] = ""


class AskHumanArguments(_Arguments):
    """Arguments of `ask_human`."""

    question: Annotated[
        str, Field(min_length=1, max_length=4_000, description="The question, whole: no one has read along.")
    ]
    choices: Annotated[
        list[Annotated[str, Field(min_length=1, max_length=200)]],
        Field(max_length=20, description="Answers to choose from; another one may be given all the same."),
    ] = []
    timeout_seconds: Annotated[
        float | None,
        Field(gt=0, le=LONGEST_S, description="After this you go on without an answer; by default you wait for one."),
    ] = None


def _file(path: str) -> str:
    if not path.startswith("/") or path.endswith("/") or "\0" in path:
        raise ValueError("must be the absolute path of a file")
    return path


def _plain(name: str) -> str:
    if "/" in name or not name.isprintable():
        raise ValueError("must be a file name without slashes")
    return name


class PublishArguments(_Arguments):
    """Arguments of `publish`."""

    path: Annotated[str, Field(max_length=4_095, description="Absolute path of a file."), AfterValidator(_file)]
    name: Annotated[
        str, Field(max_length=200, description="File name for the download; else its own."), AfterValidator(_plain)
    ] = ""
    description: Annotated[str, Field(max_length=1_000, description="What it is, in a line.")] = ""


class StartAgentArguments(_Arguments):
    """Arguments of `start_agent`."""

    task: Annotated[
        str,
        Field(
            min_length=1,
            max_length=MAX_TASK,
            description="What it is to do, whole, and what its answer is to say: it reads nothing else of yours.",
        ),
    ]
    name: Annotated[
        str,
        Field(
            pattern=r"^([a-z0-9]([a-z0-9-]{0,22}[a-z0-9])?)?$",
            description="A short label for its id: small letters, digits and hyphens, at most 24.",
        ),
    ] = ""
    computer: Annotated[
        Computer,
        Field(
            description="`new`: a fresh one from the image. `copy`: a copy of you, with your conversation and files as "
            "of the last step before this one."
        ),
    ] = "new"
    wait: Annotated[
        bool,
        Field(
            description="Whether you wait for its answer. If not, you go on, and read the answer in a message later: "
            "for several agents at once. To wait for them then, end your turn or use `sleep`, which a message ends."
        ),
    ] = True
    timeout_seconds: Annotated[
        float | None, Field(gt=0, le=LONGEST_S, description="After this it is stopped; by default after a limit.")
    ] = None


_PUBLISH = (
    "Hand a file to the people who run you, as it is now: they can list and download it even while your computer is "
    "asleep or gone. For results, not for your own notes."
)
_SLEEP = (
    "Do nothing for a time, days if need be, then go on. Your files and installed packages are kept meanwhile; "
    "processes in the background may end. Use this rather than a `sleep` command for anything over a minute."
)
_ASK = (
    "Ask the person who runs you, and wait for the answer. It may take days. Ask only what you cannot find out or "
    "decide yourself."
)
_START_AGENT = (
    "Give a task to another agent like you, with a computer of its own. You get its last answer as text; its files do "
    "not come to you, and it is closed when it has answered. What it uses counts against your budget."
)
_TOOLS: Mapping[str, tuple[type[_Arguments], str]] = MappingProxyType(
    {
        "sleep": (SleepArguments, _SLEEP),
        "wait_until": (WaitUntilArguments, "Do nothing until a point in time, then go on; otherwise as `sleep`."),
        "ask_human": (AskHumanArguments, _ASK),
        "publish": (PublishArguments, _PUBLISH),
        "start_agent": (StartAgentArguments, _START_AGENT),
    }
)


def function_tools(names: Sequence[str]) -> list[Json]:
    """The tools of these names as the Chat Completions wire declares them; a name that is not known is left out."""
    return [
        {
            "type": "function",
            "function": {"name": name, "description": told, "parameters": arguments.model_json_schema()},
        }
        for name, (arguments, told) in _TOOLS.items()
        if name in names
    ]


def checked(name: str, arguments: str) -> Json:
    """The arguments of a call, valid and with their defaults.

    Raises:
        ValidationError: they are not what the tool takes.
        KeyError: there is no such tool.
    """
    kind, _ = _TOOLS[name]
    return kind.model_validate_json(arguments or "{}").model_dump(mode="json")
