"""The worker dies, at every kind of moment."""

import asyncio

from tests.chaos.errand import Job
from tests.chaos.store_proxy import Rule
from tests.chaos.trial import Trial, fault

_LONG = (Job("c1"), Job("c2", seconds=4), Job("c3"))
_AWAY_S = 60
_LEASE_OUT_S = 30


@fault("worker `kill -9` during a command", jobs=_LONG)
async def worker_killed_during_exec(trial: Trial) -> None:
    await trial.post()
    await trial.begun("c2")
    trial.hit()
    await trial.world.restart_worker()


@fault("worker `kill -9` during a model call", thinking={1: 4.0})
async def worker_killed_during_model_call(trial: Trial) -> None:
    await trial.post()
    await trial.asked(1)
    trial.hit()
    await trial.world.restart_worker()


@fault("worker `kill -9` during a snapshot")
async def worker_killed_during_snapshot(trial: Trial) -> None:
    held = trial.world.proxy.add(Rule(lambda it: it.writes and it.of_snapshots, hold=True))
    await trial.post()
    await asyncio.wait_for(held.met.wait(), 60)
    trial.hit()
    await trial.world.worker.kill()
    trial.world.proxy.remove(held)
    await trial.world.worker.start()


@fault("worker `kill -9` during a restore", messages=2, jobs=(Job("c1"), Job("c2")))
async def worker_killed_during_restore(trial: Trial) -> None:
    await _restoring(trial)
    trial.hit()
    await trial.world.worker.kill()
    trial.world.proxy.mend()
    await trial.world.worker.start()


@fault("worker gone for 30 s during a restore: its lease runs out", messages=2, jobs=(Job("c1"), Job("c2")))
async def worker_gone_during_restore(trial: Trial) -> None:
    await _restoring(trial)
    trial.hit()
    await trial.world.worker.kill()
    trial.world.proxy.mend()
    await asyncio.sleep(_LEASE_OUT_S)
    await trial.world.worker.start()


@fault("worker `kill -9` between two steps", jobs=_LONG)
async def worker_killed_between_steps(trial: Trial) -> None:
    await trial.post()
    await trial.begun("c2")
    await trial.agent.pause("a moment between two steps")
    await _resting(trial)
    trial.hit()
    await trial.world.restart_worker()
    await trial.agent.resume()


@fault("all workers gone for a minute, a command running", jobs=_LONG)
async def all_workers_gone(trial: Trial) -> None:
    await trial.post()
    await trial.begun("c2")
    trial.hit()
    await trial.world.worker.kill()
    await asyncio.sleep(_AWAY_S)
    await trial.world.worker.start()


@fault("worker stopped in good order during a command", jobs=_LONG)
async def worker_stopped_during_exec(trial: Trial) -> None:
    await trial.post()
    await trial.begun("c2")
    trial.hit()
    await trial.world.worker.stop()
    await trial.world.worker.start()


async def _restoring(trial: Trial) -> None:
    """Let the agent do its first job, sleep, and be woken; returns in the middle of the restore, which waits."""
    await trial.post()
    await trial.answered()
    await trial.agent.hibernate(timeout=60)
    held = trial.world.proxy.add(Rule(lambda it: it.method == "GET" and "/packs/" in it.path, hold=True))
    await trial.post()
    await asyncio.wait_for(held.met.wait(), 60)


async def _resting(trial: Trial) -> None:
    """Wait until the agent works on nothing: no activity is under way."""
    for _ in range(600):
        described = await trial.world.temporal.get_workflow_handle(trial.agent.id).describe()
        if not described.raw_description.pending_activities:
            return
        await asyncio.sleep(0.05)
    raise AssertionError("the agent does not come to rest")
