"""Function tools: Temporal activities that the model may call, on any task queue, in any language."""

from datetime import timedelta
from typing import Annotated

from pydantic import Field, JsonValue, field_validator

from hibernaut.models.base import Model
from hibernaut.models.people import TOOLS

MAX_FUNCTIONS = 100
MAX_FUNCTIONS_BYTES = 200_000
MAX_ARGUMENTS = 32_000
"""Characters of a call's arguments, as JSON."""
MAX_RESULT = 64_000
"""Characters of a result, as JSON."""


class FunctionSpec(Model):
    """One function tool. Its activity gets the arguments as one JSON object and returns JSON."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
    """The tool's name, as the model calls it."""
    description: Annotated[str, Field(min_length=1, max_length=4_000)]
    """What it does, and when to use it: all that the model knows of it."""
    parameters: dict[str, JsonValue] = Field(default_factory=lambda: {"type": "object", "properties": {}})
    """JSON Schema (2020-12) of the arguments; of type `object`. References to other documents are not followed."""
    result: dict[str, JsonValue] | None = None
    """JSON Schema of the result; without it any JSON is taken."""
    task_queue: Annotated[str, Field(min_length=1, max_length=1_000)]
    """The task queue whose workers run it."""
    activity: Annotated[str, Field(min_length=1, max_length=1_000)] | None = None
    """Name of the activity; the tool's name by default."""
    timeout: Annotated[timedelta, Field(gt=timedelta(0), le=timedelta(hours=24))] = timedelta(minutes=1)
    """Limit of one attempt."""
    start_timeout: Annotated[timedelta, Field(gt=timedelta(0), le=timedelta(days=30))] = timedelta(minutes=1)
    """How long a call waits for a worker before the model is told that there is none."""
    retry_safe: bool = False
    """Whether it may run again when an attempt failed or its end was not seen. If not, it runs at most once."""
    approval: bool = False
    """Whether every call waits for a person's consent, whatever the approval policy says."""

    @field_validator("name")
    @classmethod
    def _free(cls, value: str) -> str:
        if value in ("shell", *TOOLS):
            raise ValueError(f"{value!r} is the name of a tool of the engine's own; choose another one")
        return value

    @field_validator("parameters")
    @classmethod
    def _an_object(cls, value: dict[str, JsonValue]) -> dict[str, JsonValue]:
        if value.get("type") != "object":
            raise ValueError("must be a JSON Schema whose `type` is `object`: a call has named arguments")
        return value

    @property
    def activity_name(self) -> str:
        """Name of the activity that runs it."""
        return self.activity or self.name
