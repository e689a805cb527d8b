"""A spec as it comes from any client, checked inside the workflow."""

from pydantic import JsonValue

from hibernaut._explain import parse_spec
from hibernaut.errors import InvalidSpec
from hibernaut.models import AgentSpec


def check(spec: JsonValue, *, carried: bool = False) -> tuple[AgentSpec, str | None]:
    """The spec, or a placeholder with the sentences that say what is wrong: the SDK's own."""
    try:
        return parse_spec(spec, carried=carried), None
    except InvalidSpec as error:
        return AgentSpec(model="invalid"), str(error)
