"""The tool `start_agent`: begins a child agent, and what its caller waits for."""

from datetime import timedelta
from typing import cast

from temporalio import workflow

from hibernaut.contracts import children as contracts
from hibernaut.models import AgentParent, AgentState, EventKind, ToolCall
from hibernaut.models.children import Computer
from workflows import bounds
from workflows.answers import Answers
from workflows.checkpoints import standpoint
from workflows.children import Children, see_to
from workflows.context import Context
from workflows.lease import Lease
from workflows.offspring import KEPT_TASK, Child
from workflows.record import OpenReply
from workflows.waits import Waits

NOTHING_TO_COPY = "not started: you have not finished a step yet, so there is nothing to copy; take a `new` computer"


class ChildCalls:
    """Carries out `start_agent`."""

    def __init__(self, context: Context, lease: Lease, answers: Answers, waits: Waits) -> None:
        """Share the agent's context and lease; calls are answered through `answers`, or wait in `waits`."""
        self._context = context
        self._record = context.record
        self._lease = lease
        self._answers = answers
        self._waits = waits
        self._children = Children(context)

    async def begin(self, reply: OpenReply, call: ToolCall) -> bool:
        """Start a child; whether the call is answered already, rather than waits for the child."""
        record, asked = self._record, call.arguments or {}
        copy = asked.get("computer") == "copy"
        self._context.show(AgentState.RUNNING, "starting an agent")
        if copy and record.lease is not None and not await self._lease.ready():
            # What is not durable yet is not in the copy; and what was lost is no longer what the model decided on.
            reply.intact = False
            self._answers.not_run(call, ())
            return True
        self._children.look_after()
        await self._children.order()
        refusal = self._children.refusal()
        if refusal is None and copy and record.checkpoint is None:
            refusal = NOTHING_TO_COPY
        if refusal is not None:
            self._answers.refused(call, refusal)
            return True
        child = await self._started(call, copy=copy)
        if child is None:
            self._answers.refused(call, "not started: an agent of its id is there already; ask again for another one")
            return True
        if child.background:
            until = child.until.isoformat(timespec="seconds")
            self._answers.returned(call, {"agent": child.agent_id, "state": child.state.value, "until": until})
            return True
        self._waits.for_agent(reply, call, child)
        return False

    async def _started(self, call: ToolCall, *, copy: bool) -> Child | None:
        record, asked = self._record, call.arguments or {}
        spec, task = self._context.spec, str(asked["task"])
        now, limit = workflow.now(), spec.children.timeout
        if (wanted := asked.get("timeout_seconds")) is not None:
            limit = min(limit, timedelta(seconds=float(cast("float", wanted))))
        computer: Computer = "copy" if copy else "new"
        child = Child(
            agent_id=contracts.child_agent_id(
                self._context.agent_id, record.uid, record.children.started + 1, str(asked.get("name") or "")
            ),
            task=task[:KEPT_TASK],
            computer=computer,
            background=not asked.get("wait", True),
            started_at=now,
            until=now + limit,
        )
        source = standpoint(self._context).model_copy(update={"spec": {}, "recent": ()}) if copy else None
        request = contracts.ChildRequest(
            parent=AgentParent(agent_id=self._context.agent_id, agent_uid=record.uid),
            child_id=child.agent_id,
            task=task,
            spec=self._children.spec().model_dump(mode="json", exclude_defaults=True),
            source=source,
            until=child.until,
        )
        # Before it is there: whoever ends this agent meanwhile finds it.
        record.children.add(child)
        bounds.note_work()
        if not await see_to(request):
            record.children.known.remove(child)
            return None
        self._context.journal.add(
            EventKind.CHILD_STARTED,
            f"started agent {child.agent_id}: {child.task}",
            call_id=call.call_id,
            **child.status().model_dump(mode="json"),
        )
        return child
