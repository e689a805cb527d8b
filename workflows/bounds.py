"""How long a run may become, and whether any build of the worker can go on with it."""

from temporalio import workflow
from temporalio.workflow import ContinueAsNewVersioningBehavior

# By its module: tests lower the limits, and the sandbox passes `hibernaut` through.
from hibernaut.contracts import limits


class Run:
    """A workflow that is asked whether its present run has done anything."""

    worked = False
    """Whether this run has scheduled an activity: then other builds may not be able to replay it."""


def note_work() -> None:
    """Remember that the current run schedules an activity."""
    instance = workflow.instance()
    if isinstance(instance, Run):
        instance.worked = True


def due() -> bool:
    """Whether the current run should end and the next go on: Temporal says so, or a bound of our own is reached."""
    info = workflow.info()
    return (
        info.is_continue_as_new_suggested()
        or info.get_current_history_length() >= limits.RUN_EVENTS
        or info.get_current_history_size() >= limits.RUN_BYTES
    )


def too_long_to_sleep(run: Run) -> bool:
    """Whether an agent should sleep in a fresh run instead of this one.

    Under worker versioning only a run that has done nothing yet can sleep: no build is kept for its sake.
    """
    return workflow.info().get_current_history_length() > limits.SLEEPING_EVENTS or (run.worked and versioned())


def versioned() -> bool:
    """Whether this run is worked on by a build of a worker deployment. The history knows, so that a replay agrees."""
    version = workflow.info().get_current_deployment_version()
    return version is not None and bool(version.deployment_name)


def next_build(*, free: bool) -> ContinueAsNewVersioningBehavior | None:
    """Which build the next run begins on: the current one when the agent is `free`, else that of this run."""
    return ContinueAsNewVersioningBehavior.AUTO_UPGRADE if free and versioned() else None
