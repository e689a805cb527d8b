"""What a model is offered beside the shell: the engine's own tools, the spec's functions, tools of MCP servers."""

from collections.abc import Sequence
from typing import Any

from pydantic import ValidationError

from activities import engine_tools
from activities.functions import Functions

Json = dict[str, Any]


class OfferedTools:
    """Implements the port `ToolSet`."""

    def __init__(self, names: Sequence[str], *functions: Functions) -> None:
        """Offer the engine's tools of these names, and functions; no two have a name in common."""
        self._engine = names
        self._functions = {name: some for some in functions for name in some.names}
        self.names = (*names, *self._functions)
        self._declarations = [tool for some in functions for tool in some.declarations()]

    def declarations(self) -> list[Json]:
        """See the port."""
        return [*engine_tools.function_tools(self._engine), *self._declarations]

    def checked(self, name: str, arguments: str) -> Json:
        """See the port."""
        if name in self._functions:
            return self._functions[name].checked(name, arguments)
        try:
            return engine_tools.checked(name, arguments)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False, include_context=False)[0]
            field = ".".join(str(step) for step in first["loc"]) or "arguments"
            raise ValueError(f"{field}: {first['msg'][:300]}") from None
