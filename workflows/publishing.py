"""The tool `publish`: a file of the sandbox, kept for people."""

from datetime import timedelta
from pathlib import PurePosixPath

from temporalio import workflow
from temporalio.exceptions import ActivityError

from hibernaut import contracts
from hibernaut.models import AgentState, EventKind, ToolCall
from workflows import options
from workflows.answers import Answers
from workflows.context import Context
from workflows.failures import reason_of
from workflows.lease import Lease

NAME_LENGTH = 100
PATIENCE = timedelta(hours=2)
"""How long a store that is away is waited for before the model is told."""


class Publishing:
    """Carries out `publish`."""

    def __init__(self, context: Context, lease: Lease, answers: Answers) -> None:
        """Share the agent's context and lease; calls are answered through `answers`."""
        self._context = context
        self._lease = lease
        self._answers = answers

    async def run(self, call: ToolCall, artifact_id: str) -> None:
        """Publish one file; the sandbox is held."""
        record, asked = self._context.record, call.arguments or {}
        path = str(asked["path"])
        if record.lease is None:
            raise RuntimeError("a file is about to be published without a sandbox")
        self._context.show(AgentState.RUNNING, f"publishing `{path[:120]}`")
        request = contracts.PublishRequest(
            agent_uid=record.uid,
            lease=record.lease,
            artifact_id=artifact_id,
            path=path,
            name=_name(str(asked.get("name") or PurePosixPath(path).name)),
            description=str(asked.get("description") or ""),
            max_bytes=self._context.spec.max_artifact_bytes,
            turn=record.turn,
            step=record.step - 1,
        )
        try:
            handle = options.start(
                contracts.ARTIFACT_PUBLISH,
                request,
                summary=f"publish {path}",
                task_queue=record.lease.task_queue,
                schedule_to_close=PATIENCE,
            )
            await workflow.wait_condition(lambda: handle.done() or record.stopping)
            if not handle.done():
                handle.cancel()
            result = await handle
        except ActivityError as error:
            self._answers.refused(call, f"not published: {reason_of(error)}")
            # If the sandbox is why, this finds out.
            self._lease.begin_snapshot("after a failed publish")
            return
        self._context.journal.add(
            EventKind.ARTIFACT,
            f"published {result.name}, {result.size} bytes",
            **result.model_dump(mode="json"),
        )
        self._answers.returned(call, {"artifact": result.artifact_id, "size": result.size, "sha256": result.sha256})


def _name(text: str) -> str:
    """A name that is safe to be a file's: no control character, no leading dot."""
    plain = "".join(char if char.isprintable() else "_" for char in text)
    return plain.lstrip(".")[:NAME_LENGTH] or "artifact"
