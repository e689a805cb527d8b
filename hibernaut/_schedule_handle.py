"""The handle of one schedule: what it says of itself, and what can be done with it."""

from collections.abc import Awaitable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from temporalio.client import RPCTimeoutOrCancelledError, ScheduleBackfill, ScheduleHandle as TemporalSchedule
from temporalio.service import RPCError

from hibernaut._firings import matching_times, recent_firings
from hibernaut._schedule_change import UNCHANGED, Change, Unchanged, change_schedule
from hibernaut._schedule_errors import InvalidSchedule
from hibernaut._schedules import MAX_TIMES, OVERLAPS, policy_of, request_of, status_of, translated
from hibernaut._temporal import ATTEMPT, Workflows
from hibernaut.contracts.schedules import schedule_id
from hibernaut.errors import TemporalUnreachable
from hibernaut.models import AgentSpec
from hibernaut.models.schedules import OverlapPolicy, ScheduleStatus

T = TypeVar("T")


class ScheduleHandle:
    """One schedule, by its name."""

    def __init__(self, name: str, workflows: Workflows) -> None:
        """Made by `Schedules.create` and `Schedules.get`."""
        self.name = name
        self._workflows = workflows

    def __repr__(self) -> str:
        return f"ScheduleHandle({self.name!r})"

    async def describe(self) -> ScheduleStatus:
        """What it does, when it fires next, and what became of the newest firings.

        Raises:
            ScheduleNotFound: no schedule of ours has this name.
        """
        asked_at = datetime.now(UTC)
        description = await self._rpc(self._handle.describe(rpc_timeout=ATTEMPT))
        request = await request_of(self.name, description)
        recent = await self._rpc(recent_firings(self._workflows.client, request, description, asked_at))
        return status_of(request, description, recent)

    async def update(  # noqa: PLR0913  # as many as there are things to change; all by name
        self,
        *,
        cron: str | None = None,
        message: str | None = None,
        agent: str | None = None,
        spec: AgentSpec | Mapping[str, Any] | None = None,
        timezone: str | None = None,
        overlap: OverlapPolicy | str | None = None,
        catchup_window: timedelta | None = None,
        jitter: timedelta | None = None,
        keep: int | Unchanged | None = UNCHANGED,
        run_timeout: timedelta | Unchanged | None = UNCHANGED,
        note: str | None = None,
    ) -> None:
        """Change what is given, and nothing else: as of `Schedules.create`.

        A firing under way goes on as it began; one that waits for it is of the new kind. What the schedule counted,
        its agents, its message ids and whether it is paused stay. `agent` takes the place of a spec, and `spec` that of
        an agent.

        Raises:
            InvalidSchedule: what cannot be, with what may; nothing is changed then.
            InvalidSpec: with every wrong field.
            ScheduleNotFound: no schedule of ours has this name.
            AgentNotFound, AgentClosed: of `agent`.
            ScheduleError: others change it all the time.
        """
        change = Change(
            cron=cron, message=message, agent=agent, spec=spec, timezone=timezone, overlap=overlap,
            catchup_window=catchup_window, jitter=jitter, keep=keep, run_timeout=run_timeout, note=note,
        )  # fmt: skip
        await self._rpc(change_schedule(self._workflows, self.name, change))

    async def pause(self, note: str = "") -> None:
        """Fire no more until `resume`. What runs goes on."""
        await self._rpc(self._handle.pause(note=note or None, rpc_timeout=ATTEMPT))

    async def resume(self, note: str = "") -> None:
        """Fire again, from the next time on: what was due during the pause is not made up for (`backfill` does)."""
        await self._rpc(self._handle.unpause(note=note or None, rpc_timeout=ATTEMPT))

    async def trigger(self, overlap: OverlapPolicy | str | None = None) -> None:
        """Fire now, paused or not. Two within one second are one: their nominal time is the same.

        Args:
            overlap: None: the schedule's own policy.
        """
        policy = None if overlap is None else OVERLAPS[policy_of(overlap)]
        await self._rpc(self._handle.trigger(overlap=policy, rpc_timeout=ATTEMPT))

    async def times(self, start: datetime, end: datetime) -> tuple[datetime, ...]:
        """When firings are due between two times, both included: 1,000 at most, jitter counted, paused or not."""
        first, last = _aware(start), _aware(end)
        return await self._rpc(matching_times(self._workflows.client, self.name, first, last))

    async def backfill(
        self, start: datetime, end: datetime, overlap: OverlapPolicy | str = OverlapPolicy.BUFFER_ALL
    ) -> int:
        """Fire for the times between two moments of the past, both included; how many they are.

        A time for which the message was sent already is not sent again, as long as the agent remembers it.

        Raises:
            InvalidSchedule: the end lies before the start, or in the future, or there are 1,000 times and more.
        """
        first, last = _aware(start), _aware(end)
        if not first <= last <= datetime.now(UTC):
            raise InvalidSchedule(
                f"A backfill goes from one time in the past to a later one, not from {first} to {last}."
            )
        count = len(await self.times(first, last))
        if count >= MAX_TIMES:
            raise InvalidSchedule(
                f"More than {MAX_TIMES - 1} firings lie between {first} and {last}; the server buffers no more.",
                hint="Backfill a shorter time, wait for the end of it, then the next.",
            )
        # The server leaves out the start itself.
        wanted = ScheduleBackfill(first - timedelta(microseconds=1), last, OVERLAPS[policy_of(overlap)])
        await self._rpc(self._handle.backfill(wanted, rpc_timeout=ATTEMPT))
        return count

    async def delete(self) -> None:
        """Delete the schedule. A firing under way goes on, and agents stay."""
        await self._rpc(self._handle.delete(rpc_timeout=ATTEMPT))

    @property
    def _handle(self) -> TemporalSchedule:
        return self._workflows.client.get_schedule_handle(schedule_id(self.name))

    async def _rpc(self, call: Awaitable[T]) -> T:
        try:
            return await call
        except RPCTimeoutOrCancelledError as error:
            raise TemporalUnreachable("Temporal does not answer in time.", hint="Is the server overloaded?") from error
        except RPCError as error:
            raise translated(error, self.name, self._workflows.client.namespace) from error


def _aware(time: datetime) -> datetime:
    if time.tzinfo is None:
        raise InvalidSchedule(f"The time {time} has no time zone.", hint="Say 2026-11-30T09:00:00+01:00, or ...Z.")
    return time
