"""What the activities of a host note for its audit chain."""

from activities.errors import SandboxUnavailable
from activities.ports.audit import HostAudit
from activities.ports.sandbox import Container, Owned
from hibernaut.contracts import AcquireRequest


def note_created(audit: HostAudit | None, request: AcquireRequest, container: Container) -> None:
    """Note a container before anything runs in it.

    Raises:
        SandboxUnavailable: It cannot be noted; what is not in the record does not run.
    """
    if audit is None:
        return
    try:
        audit.note(
            "sandbox.created",
            agent_id=request.agent_id,
            agent_uid=request.agent_uid,
            generation=request.generation,
            sandbox_id=container.sandbox_id,
            image_id=container.image_id,
            runtime=request.spec.runtime,
            network=request.spec.network.mode,
        )
    except OSError as error:
        raise SandboxUnavailable(f"the new sandbox cannot be noted for the audit: {error}") from error


def note_box(audit: HostAudit, kind: str, box: Owned, *, reason: str = "") -> None:
    """Note what was done to a container that is there.

    Raises:
        OSError: It could not be kept.
    """
    audit.note(
        kind,
        agent_id=box.agent_id,
        agent_uid=box.agent_uid,
        generation=box.generation,
        sandbox_id=box.sandbox_id,
        reason=reason,
    )
