"""Function tools from typed Python functions, and the worker that runs them. Needs the SDK alone.

@function_tool(task_queue="crm", retry_safe=True)
async def find_customer(name: str) -> Customer:
    \"\"\"Find a customer by name.\"\"\"

spec = AgentSpec(model="...", functions=(find_customer.spec,))
async with tool_worker(client.temporal, [find_customer]): ...
"""

import asyncio
import inspect
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any, Generic, ParamSpec, TypeVar, get_type_hints

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError, create_model
from temporalio import activity
from temporalio.client import Client
from temporalio.exceptions import ApplicationError
from temporalio.worker import Worker

from hibernaut.errors import InvalidRequest
from hibernaut.models.functions import FunctionSpec

P = ParamSpec("P")
R = TypeVar("R")
THREADS = 32
"""Functions that are not `async` run in threads, so many at once."""


class FunctionTool(Generic[P, R]):
    """A function that models may call; it can still be called as before."""

    def __init__(self, function: Callable[P, R], spec: FunctionSpec, arguments: type[BaseModel], result: Any) -> None:  # noqa: ANN401  # any type
        """Made by `function_tool`."""
        self.spec = spec
        self._function = function
        self._arguments = arguments
        self._result: TypeAdapter[Any] = TypeAdapter(result)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the function itself."""
        return self._function(*args, **kwargs)

    @property
    def activity(self) -> Callable[[dict[str, Any]], Any]:
        """The Temporal activity, to be given to a worker of the tool's task queue."""
        function: Callable[..., Any] = self._function

        @activity.defn(name=self.spec.activity_name)
        async def run(arguments: dict[str, Any]) -> Any:  # noqa: ANN401  # JSON
            try:
                valid = self._arguments.model_validate(arguments)
            except ValidationError as error:
                first = error.errors(include_url=False, include_input=False)[0]
                field = ".".join(str(step) for step in first["loc"])
                told = f"the arguments of {self.spec.name} do not fit ({field}: {first['msg']})"
                raise ApplicationError(told, type="InvalidArguments", non_retryable=True) from None
            given = {name: getattr(valid, name) for name in type(valid).model_fields}
            if inspect.iscoroutinefunction(function):
                returned = await function(**given)
            else:
                returned = await asyncio.get_running_loop().run_in_executor(_threads(), lambda: function(**given))
            return self._result.dump_python(self._result.validate_python(returned), mode="json")

        return run


def function_tool(
    *,
    task_queue: str,
    name: str | None = None,
    description: str | None = None,
    timeout: timedelta = timedelta(minutes=1),
    retry_safe: bool = False,
    approval: bool = False,
) -> Callable[[Callable[P, R]], FunctionTool[P, R]]:
    """Make a function tool of a typed function, `async` or not.

    Args:
        task_queue: Where its worker polls.
        name: The tool's name; the function's by default.
        description: What the model is told; the docstring by default.
        timeout: Limit of one attempt.
        retry_safe: Whether it may run again when an attempt failed or its end was not seen.
        approval: Whether every call waits for a person's consent.

    Raises:
        InvalidRequest: a parameter has no type or cannot be passed by name, or there is no description.
    """

    def make(function: Callable[P, R]) -> FunctionTool[P, R]:
        own = name or function.__name__
        told = description or inspect.getdoc(function)
        if not told:
            raise InvalidRequest(f"The function tool {own} has no description.", hint="Write a docstring.")
        hints = get_type_hints(function, include_extras=True)
        arguments = _arguments(own, function, hints)
        result = hints.get("return", Any)
        awaited: Any = result if result is not type(None) else None
        spec = FunctionSpec(
            name=own,
            description=told,
            parameters=arguments.model_json_schema(),
            result=TypeAdapter(awaited).json_schema(mode="serialization"),
            task_queue=task_queue,
            timeout=timeout,
            retry_safe=retry_safe,
            approval=approval,
        )
        return FunctionTool(function, spec, arguments, awaited)

    return make


def tool_worker(client: Client, tools: Sequence[FunctionTool[Any, Any]], **options: Any) -> Worker:  # noqa: ANN401  # Temporal's own
    """A Temporal worker for function tools of one task queue.

    Args:
        client: `AgentClient.temporal`, or another client with the pydantic data converter.
        tools: All of one task queue.
        options: Further arguments of `temporalio.worker.Worker`.

    Raises:
        InvalidRequest: there are none, or their task queues differ.
    """
    queues = {tool.spec.task_queue for tool in tools}
    if len(queues) != 1:
        found = ", ".join(sorted(queues)) or "none"
        raise InvalidRequest(f"A worker polls one task queue, and the tools name: {found}.", hint="Make one for each.")
    return Worker(client, task_queue=queues.pop(), activities=[tool.activity for tool in tools], **options)


def _arguments(name: str, function: Callable[..., Any], hints: dict[str, Any]) -> type[BaseModel]:
    fields: dict[str, Any] = {}
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            raise InvalidRequest(f"The parameter {parameter} of the function tool {name} cannot be passed by name.")
        if parameter.name not in hints:
            raise InvalidRequest(f"The parameter {parameter.name} of the function tool {name} has no type.")
        default = ... if parameter.default is parameter.empty else parameter.default
        fields[parameter.name] = (hints[parameter.name], default)
    return create_model(f"{name}_arguments", __config__=ConfigDict(extra="forbid", protected_namespaces=()), **fields)


_pool: list[ThreadPoolExecutor] = []


def _threads() -> ThreadPoolExecutor:
    if not _pool:
        _pool.append(ThreadPoolExecutor(THREADS, thread_name_prefix="tool"))
    return _pool[0]
