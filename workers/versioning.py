"""Worker versioning: which build of the worker goes on with which run.

A run is pinned to the build that works on it from the first activity it schedules. Until then its history is a handful
of events that every build can replay, so the build that is current takes the next task. Temporal's SDK declares one
behaviour for a workflow type; the wire carries one with every task that a worker completes, and that is set here.
"""

from dataclasses import dataclass
from typing import Any

from temporalio.api.enums.v1 import VersioningBehavior as Wire
from temporalio.bridge.proto.workflow_activation import WorkflowActivation
from temporalio.bridge.proto.workflow_commands import WorkflowCommand
from temporalio.bridge.proto.workflow_completion import WorkflowActivationCompletion
from temporalio.common import VersioningBehavior, WorkerDeploymentVersion
from temporalio.worker import WorkerDeploymentConfig, WorkflowInstance, WorkflowInstanceDetails, WorkflowRunner
from temporalio.workflow import Info

from hibernaut.contracts.children import CHILD_WORKFLOW
from hibernaut.contracts.names import SCHEDULED_MESSAGE_WORKFLOW
from workers.registry import workflow_runner
from workers.settings import Settings
from workers.unopened import RefusingRunner

REPLAYED_BY_ALL = frozenset(
    {
        *("start_timer", "cancel_timer", "upsert_workflow_search_attributes", "modify_workflow_properties"),
        *("update_response", "respond_to_query", "continue_as_new_workflow_execution", "complete_workflow_execution"),
        "fail_workflow_execution",
    }
)
"""Commands of an agent that rests. Whoever changes when resting code issues one breaks sleeping agents."""


NEVER_PINNED = frozenset({SCHEDULED_MESSAGE_WORKFLOW, CHILD_WORKFLOW})
"""A firing of a schedule is open while its agent waits for a person, for weeks, and so is what sees to a child agent:
every build must be able to go on with them. Whoever changes what they do needs `workflow.patched` and a recorded
history."""


def deployment(name: str, build_id: str) -> WorkerDeploymentConfig:
    """The place of a versioned worker in its deployment."""
    return WorkerDeploymentConfig(
        version=WorkerDeploymentVersion(deployment_name=name, build_id=build_id),
        use_worker_versioning=True,
        default_versioning_behavior=VersioningBehavior.PINNED,
    )


def versioning(settings: Settings) -> dict[str, Any]:
    """How the worker of the agents' queue runs workflows: as a build of a deployment, when the settings name one.

    The queues of sandbox hosts belong to no build: a host serves the agents of all.
    """
    runner = RefusingRunner(workflow_runner())
    if settings.build_id is None:
        return {"workflow_runner": runner}
    return {
        "workflow_runner": PinningRunner(runner),
        "deployment_config": deployment(settings.deployment_name, settings.build_id),
    }


@dataclass(frozen=True)
class PinningRunner(WorkflowRunner):
    """Runs workflows with another runner and pins each run once it has done something."""

    inner: WorkflowRunner

    def prepare_workflow(self, defn: Any) -> None:  # noqa: ANN401  # the type is private to the Temporal SDK
        """See `WorkflowRunner`."""
        self.inner.prepare_workflow(defn)

    def create_instance(self, det: WorkflowInstanceDetails) -> WorkflowInstance:
        """See `WorkflowRunner`."""
        return _Pinning(self.inner.create_instance(det), never=det.defn.name in NEVER_PINNED)

    def set_worker_level_failure_exception_types(self, types: Any) -> None:  # noqa: ANN401  # handed through
        """See `WorkflowRunner`."""
        self.inner.set_worker_level_failure_exception_types(types)


class _Pinning(WorkflowInstance):
    """A run; it is seen from its first task on, or replayed from there, so what it has done is known."""

    def __init__(self, inner: WorkflowInstance, *, never: bool) -> None:
        self._inner = inner
        self._pinned = False
        self._never = never

    def activate(self, act: WorkflowActivation) -> WorkflowActivationCompletion:
        completion = self._inner.activate(act)
        if completion.HasField("successful"):
            worked = any(_is_work(command) for command in completion.successful.commands)
            self._pinned = not self._never and (self._pinned or worked)
            if not self._pinned:
                completion.successful.versioning_behavior = Wire.VERSIONING_BEHAVIOR_AUTO_UPGRADE
        return completion

    def get_serialization_context(self, command_info: Any) -> Any:  # noqa: ANN401  # types private to the SDK
        return self._inner.get_serialization_context(command_info)

    def get_external_store_context(self, command_info: Any) -> Any:  # noqa: ANN401  # the same
        return self._inner.get_external_store_context(command_info)

    def get_info(self) -> Info:
        return self._inner.get_info()

    def get_thread_id(self) -> int | None:
        return self._inner.get_thread_id()


def _is_work(command: WorkflowCommand) -> bool:
    return command.WhichOneof("variant") not in REPLAYED_BY_ALL
