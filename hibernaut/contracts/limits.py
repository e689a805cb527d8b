"""When an agent's run is long enough: read by workflow code, changed by tests and nobody else.

A release that changes them changes what runs under way do next: see `docs/upgrading.md`.
"""

RUN_EVENTS = 4_000
"""Events after which a run continues as new. Temporal warns at 10,240 and ends a run at 51,200."""
RUN_BYTES = 4 * 1024 * 1024
"""Bytes of history after which it does. Temporal warns at 10 MiB and ends a run at 50."""
SLEEPING_EVENTS = 60
"""A sleeping run longer than this is continued as new, so that it stays a handful of events."""
CHILD_OVERDUE_S = 3_600.0
"""Seconds after its time in which a child agent has ended, and told so; one that has not is looked for."""
