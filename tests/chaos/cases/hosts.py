"""A whole sandbox host goes away, or is cut off from Temporal while it lives; another takes its agents over."""

from tests.chaos.errand import Job
from tests.chaos.trial import Trial, fault
from tests.chaos.world import soon

_JOBS = (Job("c1"), Job("c2", seconds=60), Job("c3"))
_PATIENCE = 240.0


@fault("host gone for good during a command, another host there", jobs=_JOBS, lost=1, leaks=True, patience=_PATIENCE)
async def host_gone(trial: Trial) -> None:
    world = trial.world
    await trial.post()
    await trial.begun("c2")
    await trial.durable("c1")
    first = (await trial.agent.status()).lease
    async with world.other_host():
        trial.hit()
        await world.worker.crash()
        await world.dockerd.kill()
        world.kill_containers()
        await trial.answered()
        second = (await trial.agent.status()).lease
        assert first is not None
        assert second is not None
        assert second.host_id != first.host_id
        assert second.generation > first.generation
        await trial.agent.hibernate(timeout=60)


@fault("host cut off from Temporal but alive, another host there", jobs=_JOBS, lost=1, leaks=True, patience=_PATIENCE)
async def host_cut_off(trial: Trial) -> None:
    world = trial.world
    await trial.post()
    await trial.begun("c2")
    await trial.durable("c1")
    container = await trial.container()
    async with world.other_host():
        trial.hit()
        world.link.cut()
        frozen = await _frozen_before(trial, container, "c2~2")
        await trial.answered()
        assert frozen, "the other host went on while the sandbox of the first still ran"
        assert trial.witness.runs["c2"] == 1
        await trial.agent.hibernate(timeout=60)
        world.link.mend()


async def _frozen_before(trial: Trial, container: str, label: str) -> bool:
    """Whether the old sandbox stands still, or is gone, when a command begins on the other host."""
    still = False

    def begun() -> bool:
        nonlocal still
        still = still or not trial.world.runs(container)
        return trial.witness.ran(label)

    await soon(begun, f"{label} is begun", trial.case.patience)
    return still
