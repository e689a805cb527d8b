"""Files on their way into an agent's computer."""

from temporalio.exceptions import ActivityError, ApplicationError

from hibernaut import contracts
from hibernaut.models import EventKind
from workflows import options
from workflows.context import Context
from workflows.failures import finding_of, reason_of
from workflows.ladder import Finding
from workflows.lease import Lease
from workflows.loss import Loss

_TRIES = 3


class Uploads:
    """Writes uploaded objects into the sandbox, waking it if need be, beside whatever turn runs."""

    def __init__(self, context: Context, lease: Lease) -> None:
        """Share the agent's context and lease."""
        self._context = context
        self._record = context.record
        self._lease = lease

    async def put(self, request: contracts.PutFile) -> contracts.PutFileResult:
        """Write an uploaded object into the sandbox; returns when a snapshot holds it.

        Raises:
            ActivityError: No sandbox could be had, the path cannot be written, or the snapshot failed.
            ApplicationError: The sandbox was lost again and again; type `SandboxBusy`.
        """
        with self._lease.in_use():
            for _ in range(_TRIES):
                result = await self._put(request)
                if result is not None:
                    return result
        raise ApplicationError("the sandbox was lost while the file was written; send it again", type="SandboxBusy")

    async def _put(self, request: contracts.PutFile) -> contracts.PutFileResult | None:
        """One try; None when the sandbox was lost, and replaced, before the file was durable."""
        lease = await self._lease.acquired()
        if lease is None:
            return None
        try:
            result = await options.call(
                contracts.FILES_PUT,
                contracts.PutFileRequest(
                    agent_uid=self._record.uid,
                    lease=lease,
                    upload_ref=request.upload_ref,
                    path=request.path,
                    mode=request.mode,
                ),
                summary=f"put {request.path}",
                task_queue=lease.task_queue,
            )
        except ActivityError as error:
            finding = finding_of(error)
            if finding is Finding.FAILED:
                raise
            await self._lease.recover(Loss(reason_of(error), finding, lease.generation))
            return None
        loss = await self._lease.snapshot(f"put {request.path}")
        if loss is not None:
            await self._lease.recover(loss)
            return None
        if self._record.lease is None or self._record.lease.generation != lease.generation:
            return None
        self._context.journal.add(
            EventKind.FILE_PUT, f"put {result.path}: {result.size} bytes", path=result.path, size=result.size
        )
        return result
