"""Errors about schedules; `hibernaut.schedules` has them too.

HibernautError
├── InvalidRequest
│   └── InvalidSchedule          a name, cron expression, time zone or option that no schedule can have
└── ScheduleError                about one schedule
    └── ScheduleNotFound, ScheduleAlreadyExists
"""

from hibernaut.errors import HibernautError, InvalidRequest


class InvalidSchedule(InvalidRequest):
    """A name, cron expression, time zone or option that no schedule can have."""

    code = "invalid_schedule"


class ScheduleError(HibernautError):
    """An error about one schedule."""

    code = "schedule_error"


class ScheduleNotFound(ScheduleError):
    """No schedule of ours has this name."""

    code = "schedule_not_found"


class ScheduleAlreadyExists(ScheduleError):
    """A schedule has this name already."""

    code = "schedule_already_exists"
