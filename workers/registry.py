"""The workflows a worker runs, and how their code is kept deterministic."""

from temporalio.worker import WorkflowRunner
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner, SandboxRestrictions

from workflows.agent import AgentWorkflow
from workflows.audit_anchor import AuditAnchorWorkflow
from workflows.child import ChildAgentWorkflow
from workflows.delete import DeleteAgentWorkflow
from workflows.fork import ForkAgentWorkflow
from workflows.housekeeping import HousekeepingWorkflow
from workflows.scheduled import ScheduledMessageWorkflow
from workflows.upkeep import CollectionWorkflow, NameSnapshotWorkflow, PruneWorkflow, VerifyWorkflow

WORKFLOWS: tuple[type, ...] = (
    AgentWorkflow,
    AuditAnchorWorkflow,
    ChildAgentWorkflow,
    CollectionWorkflow,
    DeleteAgentWorkflow,
    ForkAgentWorkflow,
    HousekeepingWorkflow,
    NameSnapshotWorkflow,
    PruneWorkflow,
    ScheduledMessageWorkflow,
    VerifyWorkflow,
)

_PASSED = ("hibernaut", "pydantic", "pydantic_core", "annotated_types")
"""Modules without state of their own: imported once, not once per workflow."""


def workflow_runner() -> WorkflowRunner:
    """Temporal's sandbox: a clock, a random number or a file in workflow code is an error, not a surprise."""
    return SandboxedWorkflowRunner(restrictions=SandboxRestrictions.default.with_passthrough_modules(*_PASSED))
