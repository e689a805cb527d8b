"""Requests and results about sandbox hosts: what became of a sandbox, who is there, images, orphans."""

from typing import Literal

from pydantic import Field

from hibernaut.models.base import Open
from hibernaut.models.status import LeaseStatus


class AssessRequest(Open):
    """Asks a host what became of a sandbox."""

    agent_uid: str
    lease: LeaseStatus


class AssessResult(Open):
    """What was found, and made of it."""

    state: Literal["running", "restarted", "gone"]
    """`running`: as the lease says (thawed if it was frozen). `restarted`: its files are there and it runs again,
    its processes are gone. `gone`: a new one is needed."""
    lease: LeaseStatus
    """The lease to go on with, unless the sandbox is gone."""
    reason: str
    """What happened to it, for people."""
    duration_ms: int = 0


class PingRequest(Open):
    """Asks a host whether it is there."""

    host_id: str


class PingResult(Open):
    """It is."""

    host_id: str
    sandboxes: int = 0
    """Containers of agents on it."""


class KeepImageRequest(Open):
    """Asks a host to put the base image of a sandbox into the store, unless it is there."""

    image_id: str
    image: str
    """Its name, for people."""


class KeepImageResult(Open):
    """The image is in the store."""

    ref: str
    bytes_stored: int = 0
    """0 when it was there already."""
    duration_ms: int = 0


class LoadImageRequest(Open):
    """Asks a host to load an image from the store."""

    image_id: str


class LoadImageResult(Open):
    """The image is on the host, verified."""

    image_id: str
    bytes: int
    duration_ms: int = 0


class HostsRequest(Open):
    """Asks for the sandbox hosts there are."""


class HostsResult(Open):
    """Ids of the hosts that registered themselves in the store."""

    hosts: tuple[str, ...]


class SweepRequest(Open):
    """Asks a host to remove containers that no agent holds any more."""

    host_id: str
    sweep_id: str
    """Names the audit file: the same on every retry."""


class SweptContainer(Open):
    """A container that was removed."""

    sandbox_id: str
    agent_id: str
    agent_uid: str
    generation: int
    reason: str
    """`agent gone`, `agent closed`, `agent hibernated`, `generation superseded`."""


class SweepResult(Open):
    """What was removed, and what was kept."""

    removed: tuple[SweptContainer, ...] = ()
    kept: int = 0
    audit_ref: str | None = None
    """Key of the audit lines; none when nothing was removed."""


class HousekeepingResult(Open):
    """The result of `HousekeepingWorkflow`."""

    swept: dict[str, SweepResult] = Field(default_factory=dict[str, SweepResult])
    """By host."""
    silent: tuple[str, ...] = ()
    """Hosts that did not answer."""
