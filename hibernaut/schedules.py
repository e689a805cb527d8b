"""Schedules: messages that recur, sent to one agent or each to a fresh one. `AgentClient.schedules`."""

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Any

from temporalio.client import (
    ScheduleAlreadyRunningError,
    ScheduleListActionStartWorkflow,
    ScheduleListDescription,
    ScheduleState,
)
from temporalio.service import RPCError, RPCStatusCode

from hibernaut._connect import translate
from hibernaut._explain import parse_spec
from hibernaut._schedule_change import UNCHANGED, Unchanged
from hibernaut._schedule_errors import InvalidSchedule, ScheduleAlreadyExists, ScheduleError, ScheduleNotFound
from hibernaut._schedule_handle import ScheduleHandle
from hibernaut._schedules import (
    KEEP,
    check_keep,
    check_limits,
    check_name,
    check_room,
    check_times,
    policy_of,
    request_of,
    schedule_of,
    summary_line,
    translated,
)
from hibernaut._temporal import ATTEMPT, Workflows
from hibernaut.contracts.names import SCHEDULED_MESSAGE_WORKFLOW
from hibernaut.contracts.schedules import SCHEDULE_PREFIX, ScheduledMessage, schedule_id
from hibernaut.models import AgentSpec
from hibernaut.models.schedules import OverlapPolicy, ScheduleStatus, ScheduleSummary

__all__ = [
    "UNCHANGED",
    "InvalidSchedule",
    "OverlapPolicy",
    "ScheduleAlreadyExists",
    "ScheduleError",
    "ScheduleHandle",
    "ScheduleNotFound",
    "ScheduleStatus",
    "ScheduleSummary",
    "Schedules",
    "Unchanged",
]

CATCHUP_WINDOW = timedelta(days=1)
AT_ONCE = 20
"""Schedules that are asked at the same time what they do."""


class Schedules:
    """Makes and finds schedules."""

    def __init__(self, workflows: Workflows) -> None:
        """Made by `AgentClient`."""
        self._workflows = workflows

    async def create(  # noqa: PLR0913  # what a schedule is made of; all but the first by name
        self,
        name: str,
        *,
        cron: str,
        message: str,
        agent: str | None = None,
        spec: AgentSpec | Mapping[str, Any] | None = None,
        timezone: str = "UTC",
        overlap: OverlapPolicy | str = OverlapPolicy.BUFFER_ONE,
        catchup_window: timedelta = CATCHUP_WINDOW,
        jitter: timedelta = timedelta(0),
        keep: int | None = KEEP,
        run_timeout: timedelta | None = None,
        paused: bool = False,
        note: str = "",
    ) -> ScheduleHandle:
        """Make a schedule. Nothing is made unless all of it is valid.

        Args:
            name: 1 to 100 of the characters A-Z a-z 0-9 . _ -.
            cron: Five fields (minute, hour, day of month, month, day of week), a sixth for the year, seven with the
                seconds first; or `@daily` and its like, `@every 90m`.
            message: What is sent, at most 100,000 bytes of UTF-8.
            agent: The id of an agent: each firing continues it.
            spec: Of fresh agents instead, one a firing, `NAME-20261130T080000Z`, closed when it has answered.
            timezone: IANA name, in which the cron expression is meant.
            overlap: What happens when a firing is due while an earlier one is open.
            catchup_window: How late a firing may start that was due while the server was down; 10 s at least.
            jitter: Each firing starts up to this much later, by a random time.
            keep: Of fresh agents, how many are kept; None: all.
            run_timeout: How long a firing may take before it fails and its turn is interrupted; None: as long as the
                agent takes, which may wait for a person.
            paused: Make it, but do not start it.
            note: Shown wherever the schedule is.

        Raises:
            InvalidSchedule: what cannot be, with what may; also for a cron expression that never comes true.
            InvalidSpec: with every wrong field.
            ScheduleAlreadyExists: the name is taken.
            AgentNotFound, AgentClosed: of `agent`.
        """
        check_name(name)
        check_times(cron, timezone)
        check_limits(message, catchup_window=catchup_window, jitter=jitter, run_timeout=run_timeout)
        policy = policy_of(overlap)
        if (agent is None) == (spec is None):
            raise InvalidSchedule("A schedule has an agent or a spec: one of the two, and not both.")
        check_keep(keep)
        client, schedule = self._workflows.client, self.get(name)
        request = ScheduledMessage(schedule=name, message=message, agent_id=agent, run_timeout=run_timeout)
        if agent is not None:
            await self._workflows.raise_if_closed(agent)
        elif spec is not None:
            valid = spec if isinstance(spec, AgentSpec) else parse_spec(spec)
            fresh = {"spec": valid.model_dump(mode="json", exclude_unset=True), "keep": keep}
            request = request.model_copy(update=fresh)
            await check_room(client, name, keep)
        wanted = schedule_of(
            request, cron=cron.strip(), timezone=timezone, overlap=policy, catchup_window=catchup_window,
            jitter=jitter, state=ScheduleState(paused=paused, note=note or None),
        )  # fmt: skip
        try:
            made = await client.create_schedule(schedule_id(name), wanted, rpc_timeout=ATTEMPT)
        except ScheduleAlreadyRunningError as error:
            hint = f"Choose another name, or `hibernaut schedule delete {name}` first."
            raise ScheduleAlreadyExists(f"There is a schedule {name!r} already.", hint=hint) from error
        except RPCError as error:
            raise translated(error, name, client.namespace) from error
        try:
            if not (await made.describe(rpc_timeout=ATTEMPT)).info.next_action_times:
                raise InvalidSchedule(f"The cron expression {cron!r} never comes true.")
        except (InvalidSchedule, RPCError) as error:
            # Who is told that it failed makes it again.
            with suppress(RPCError):
                await made.delete(rpc_timeout=ATTEMPT)
            raise (translated(error, name, client.namespace) if isinstance(error, RPCError) else error) from error
        return schedule

    def get(self, name: str) -> ScheduleHandle:
        """The handle of a schedule. Asks nobody: whether it exists is seen at the first call."""
        check_name(name)
        return ScheduleHandle(name, self._workflows)

    async def list(self) -> AsyncGenerator[ScheduleSummary]:
        """All schedules of ours. A list lags behind by a second or so."""
        client = self._workflows.client
        try:
            names: list[str] = []
            async for found in await client.list_schedules(rpc_timeout=ATTEMPT):
                names += [found.id.removeprefix(SCHEDULE_PREFIX)] if _is_ours(found) else []
                if len(names) == AT_ONCE:
                    for one in await self._summaries(names):
                        yield one
                    names = []
            for one in await self._summaries(names):
                yield one
        except RPCError as error:
            raise translate(error, client.namespace) from error

    async def _summaries(self, names: Sequence[str]) -> Sequence[ScheduleSummary]:
        found = await asyncio.gather(*(self._summary(name) for name in names))
        return [one for one in found if one is not None]

    async def _summary(self, name: str) -> ScheduleSummary | None:
        """What a schedule itself says: the list does not know which agent it sends to. None when it is gone."""
        try:
            description = await self._workflows.client.get_schedule_handle(schedule_id(name)).describe(
                rpc_timeout=ATTEMPT
            )
            return summary_line(await request_of(name, description), description)
        except ScheduleNotFound:
            return None
        except RPCError as error:
            if error.status is RPCStatusCode.NOT_FOUND:
                return None
            raise


def _is_ours(found: ScheduleListDescription) -> bool:
    action = found.schedule.action if found.schedule is not None else None
    ours = isinstance(action, ScheduleListActionStartWorkflow) and action.workflow == SCHEDULED_MESSAGE_WORKFLOW
    return ours and found.id.startswith(SCHEDULE_PREFIX)
