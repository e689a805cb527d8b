"""A later build of the agent whose turns cannot replay those of today: each step begins with one more activity."""

from pydantic import JsonValue
from temporalio import workflow

from hibernaut import contracts
from hibernaut.models import AgentStatus
from workflows import options
from workflows.agent import AgentWorkflow
from workflows.record import AgentRecord
from workflows.turn import Turn


class NextTurn(Turn):
    async def _ask(self) -> contracts.ModelReply | None:
        await options.call(
            contracts.TRANSCRIPT_KEEP,
            contracts.KeepTextRequest(agent_uid=self._record.uid, message_id=f"step-{self._record.step}", text="next"),
            summary="what the next build does first",
        )
        return await super()._ask()


@workflow.defn(name=contracts.AGENT_WORKFLOW)
class NextAgentWorkflow(AgentWorkflow):
    @workflow.init
    def __init__(self, spec: JsonValue, carried: AgentRecord | None = None) -> None:
        super().__init__(spec, carried)
        self._turn = NextTurn(self._context, self._lease)

    @workflow.run
    async def run(self, spec: JsonValue, carried: AgentRecord | None = None) -> AgentStatus:
        return await super().run(spec, carried)
