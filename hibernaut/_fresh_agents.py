"""The agents that the firings of a schedule have started."""

from dataclasses import dataclass
from datetime import datetime

from temporalio.client import Client, WorkflowExecution
from temporalio.service import RPCError

from hibernaut._connect import translate
from hibernaut._temporal import ATTEMPT
from hibernaut.contracts.names import AGENT_WORKFLOW
from hibernaut.contracts.schedules import MEMO_FIRED, MEMO_SCHEDULE, nominal_of


@dataclass(frozen=True, slots=True)
class FreshAgent:
    """One of them."""

    id: str
    nominal: datetime
    """When its firing was due."""
    fired_at: datetime
    """When it was started: for a time of the past that was backfilled, long after it was due."""


async def fresh_agents(client: Client, schedule: str, *, running: bool = False) -> list[FreshAgent]:
    """All that are there, or those that are open, the first one first. A list lags behind by a second or so.

    Raises:
        HibernautError: Temporal cannot be asked.
    """
    found: list[FreshAgent] = []
    wanted = f"WorkflowType = '{AGENT_WORKFLOW}' AND WorkflowId STARTS_WITH '{schedule}-'"
    status = "ExecutionStatus = 'Running'" if running else "ExecutionStatus != 'ContinuedAsNew'"
    try:
        async for execution in client.list_workflows(f"{wanted} AND {status}", rpc_timeout=ATTEMPT):
            nominal = nominal_of(schedule, execution.id)
            if nominal is not None and await execution.memo_value(MEMO_SCHEDULE, None) == schedule:
                found.append(FreshAgent(execution.id, nominal, await _fired_at(execution, nominal)))
    except RPCError as error:
        raise translate(error, client.namespace) from error
    return sorted(found, key=lambda one: (one.fired_at, one.nominal))


async def _fired_at(execution: WorkflowExecution, nominal: datetime) -> datetime:
    """The start of the run would not do: it is that of the newest, and an agent that goes to sleep begins one."""
    noted = await execution.memo_value(MEMO_FIRED, None)
    try:
        return datetime.fromisoformat(str(noted)).astimezone(nominal.tzinfo)
    except ValueError:
        return nominal
