"""What an agent hears of the agents that it started."""

from temporalio import workflow
from temporalio.exceptions import ActivityError

from hibernaut.contracts import children as contracts
from hibernaut.models import EventKind
from workflows.failures import reason_of
from workflows.parts import Parts


class Family(Parts):
    """Takes the reports of children; a call that waits for one goes on by itself."""

    @workflow.signal(name=contracts.CHILD_ENDED)
    async def child_ended(self, report: contracts.ChildReport) -> None:
        """Note how a child ended, once; one for which no call waits is told of in a message."""
        child = self._children.ended(report)
        if child is None or not child.background or self._refusal() is not None:
            return
        try:
            await self._inbox.accept(self._children.message(child))
        except ActivityError as error:
            self._context.journal.add(
                EventKind.MESSAGE_REJECTED, f"the answer of {report.agent_id} is lost: {reason_of(error)}"
            )
