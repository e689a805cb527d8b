"""HousekeepingWorkflow: has every sandbox host remove the containers that no agent holds any more."""

import asyncio
from datetime import timedelta

from temporalio import workflow
from temporalio.exceptions import ActivityError

from hibernaut import contracts
from workflows import options
from workflows.failures import reason_of

PATIENCE = timedelta(minutes=5)
"""What a host gets for its sweep, retries included; the next housekeeping tries again."""


@workflow.defn(name=contracts.HOUSEKEEPING_WORKFLOW)
class HousekeepingWorkflow:
    """Started by a schedule, never twice at a time."""

    @workflow.run
    async def run(self) -> contracts.HousekeepingResult:
        """Sweep all hosts side by side; one that does not answer holds nobody up."""
        hosts = (await options.call(contracts.HOSTS_LIST, contracts.HostsRequest(), summary="hosts seen lately")).hosts
        sweep_id = f"{workflow.now():%Y%m%dT%H%M%SZ}-{workflow.info().run_id[-12:]}"
        results = await asyncio.gather(*(self._sweep(host, sweep_id) for host in hosts))
        found = dict(zip(hosts, results, strict=True))
        return contracts.HousekeepingResult(
            swept={host: result for host, result in found.items() if result is not None},
            silent=tuple(host for host, result in found.items() if result is None),
        )

    async def _sweep(self, host_id: str, sweep_id: str) -> contracts.SweepResult | None:
        try:
            return await options.call(
                contracts.SANDBOX_SWEEP,
                contracts.SweepRequest(host_id=host_id, sweep_id=sweep_id),
                summary=f"orphans on {host_id}",
                task_queue=contracts.host_queue(host_id),
                schedule_to_close=PATIENCE,
            )
        except ActivityError as error:
            workflow.logger.warning("host %s was not swept: %s", host_id, reason_of(error))
            return None
