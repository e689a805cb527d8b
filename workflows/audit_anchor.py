"""AuditAnchorWorkflow: knows where a host's audit chain ends, apart from the store that holds it."""

from temporalio import workflow

from hibernaut import contracts
from hibernaut.models.audit import AuditHead
from workflows import bounds

TOLD = 1_000
"""Signals after which a run continues as new."""


@workflow.defn(name=contracts.AUDIT_WORKFLOW)
class AuditAnchorWorkflow:
    """One for each host, for as long as there is its chain; its host's worker signals the head after each part.

    It schedules nothing, so that no run of it is pinned to a build.
    """

    @workflow.init
    def __init__(self, head: AuditHead | None = None) -> None:
        """Begin where the run before ended."""
        self._head = head or AuditHead()
        self._told = 0

    @workflow.run
    async def run(self, head: AuditHead | None = None) -> None:
        """Wait for signals, in runs of bounded length."""
        del head
        await workflow.wait_condition(
            lambda: self._told >= TOLD or workflow.info().is_continue_as_new_suggested(),
            timeout_summary="the head of the audit chain",
        )
        workflow.continue_as_new(self._head, initial_versioning_behavior=bounds.next_build(free=True))

    @workflow.signal
    def anchor(self, head: AuditHead) -> None:
        """The chain ends here now; what comes late, or again, changes nothing."""
        self._told += 1
        if head.seq > self._head.seq:
            self._head = head

    @workflow.query
    def head(self) -> AuditHead:
        """Where the chain ends."""
        return self._head
