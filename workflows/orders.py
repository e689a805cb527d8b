"""The orders a person gives an agent: sleep, wake, stop, go on, end."""

from temporalio import workflow
from temporalio.exceptions import ApplicationError

from hibernaut import contracts
from hibernaut.models import AgentStatus, Answer
from hibernaut.models.messages import MAX_MESSAGE_ID
from workflows.parts import Parts, go_on


class Orders(Parts):
    """Handlers that note what is wanted; the main loop carries it out."""

    @workflow.update
    async def hibernate(self) -> AgentStatus:
        """Give the container up as soon as no turn runs."""
        self._record.want_hibernate = self._lease.held or self._record.current is not None
        self._record.want_wake = False
        return self._context.status()

    @workflow.update
    async def wake(self) -> AgentStatus:
        """Take a container and restore it without waiting for a message."""
        self._record.want_wake = True
        self._record.want_hibernate = False
        return self._context.status()

    @workflow.update
    async def interrupt(self, message_id: str | None = None) -> AgentStatus:
        """End the turn under way: the model call is dropped, the command killed with its process group.

        Args:
            message_id: Only if it is the turn of this message, for the next one may have begun meanwhile.
        """
        current = self._record.current
        if current is not None and message_id in {None, current.message_id}:
            self._record.interrupt = True
        return self._context.status()

    @workflow.update
    async def withdraw(self, message_id: str) -> Answer:
        """Take a message back: its turn is interrupted; one that waits, or has yet to come, gets none."""
        return await self._inbox.withdraw(message_id)

    @withdraw.validator
    def _check_withdraw(self, message_id: str) -> None:
        # It is remembered.
        if not 1 <= len(message_id) <= MAX_MESSAGE_ID:
            raise ApplicationError(
                f"a message id has 1 to {MAX_MESSAGE_ID} characters, not {len(message_id)}",
                type="InvalidRequest",
                non_retryable=True,
            )

    @workflow.update
    async def pause(self, reason: str = "") -> AgentStatus:
        """Stop before the next step."""
        if not self._record.paused:
            self._context.pause(reason or None)
        return self._context.status()

    @workflow.update
    async def resume(self) -> AgentStatus:
        """Go on where a pause stopped."""
        if self._record.paused:
            go_on(self._context, "resumed")
        return self._context.status()

    @workflow.update
    async def close(self) -> AgentStatus:
        """End the agent: the turn under way is interrupted, a last snapshot taken, the container destroyed."""
        self._record.closing = True
        return self._context.status()

    @workflow.update
    async def put_file(self, request: contracts.PutFile) -> contracts.PutFileResult:
        """Write an uploaded object into the agent's computer, waking it if need be."""
        return await self._uploads.put(request)

    @put_file.validator
    def _check_put_file(self, request: contracts.PutFile) -> None:
        problem = self._refusal()
        if problem is not None:
            raise problem
        if not request.path.startswith("/") or "\0" in request.path:
            raise ApplicationError(
                f"the path must be absolute, not {request.path!r}", type="InvalidRequest", non_retryable=True
            )
