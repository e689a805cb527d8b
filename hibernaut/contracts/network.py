"""Requests and results of changing what a running sandbox may reach."""

from typing import cast

from pydantic import Field, model_validator

from hibernaut.models.base import Open, Sparse, unknown_fields
from hibernaut.models.network import Network
from hibernaut.models.status import LeaseStatus


class ApplyNetworkRequest(Open):
    """Asks for a sandbox to have these rules from now on."""

    agent_id: str
    agent_uid: str
    lease: LeaseStatus
    network: Sparse[Network]
    number: int
    """Counts changes of the agent's rules: an order that comes late changes nothing."""
    unknown: tuple[str, ...] = Field(default=(), exclude=True)
    """Fields of the network that this release does not know."""

    @model_validator(mode="before")
    @classmethod
    def _note_unknown(cls, data: object) -> object:
        fields = cast("dict[str, object]", data) if isinstance(data, dict) else {}
        if isinstance(network := fields.get("network"), dict):
            return {**fields, "unknown": unknown_fields(Network, cast("object", network))}
        return cast("object", data)


class ApplyNetworkResult(Open):
    """The rules are in force."""

    number: int
