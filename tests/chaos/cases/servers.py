"""Temporal and the Docker daemon die and come back."""

import asyncio

from tests.chaos.errand import Job
from tests.chaos.trial import Trial, fault
from workers.devstack.settings import Component

_LONG = (Job("c1"), Job("c2", seconds=6), Job("c3"))


@fault("Temporal server `kill -9` during a command, started again on its file", jobs=_LONG)
async def temporal_killed_during_exec(trial: Trial) -> None:
    await trial.post()
    await trial.begun("c2")
    trial.hit()
    trial.world.kill(Component.TEMPORAL)


@fault("Temporal server `kill -9` during a model call", thinking={1: 4.0})
async def temporal_killed_during_model_call(trial: Trial) -> None:
    await trial.post()
    await trial.asked(1)
    trial.hit()
    trial.world.kill(Component.TEMPORAL)


@fault("dockerd stopped during a command, started 5 s later", jobs=_LONG, lost=1)
async def dockerd_stopped(trial: Trial) -> None:
    await trial.post()
    await trial.begun("c2")
    trial.hit()
    await trial.world.dockerd.stop()
    await asyncio.sleep(5)
    await trial.world.dockerd.start()


@fault("dockerd `kill -9` during a command, started 5 s later", jobs=_LONG, lost=1)
async def dockerd_killed(trial: Trial) -> None:
    await trial.post()
    await trial.begun("c2")
    trial.hit()
    await trial.world.dockerd.kill()
    await asyncio.sleep(5)
    await trial.world.dockerd.start()


@fault("dockerd `kill -9` while the model thinks", thinking={2: 6.0})
async def dockerd_killed_during_model_call(trial: Trial) -> None:
    await trial.post()
    await trial.asked(2)
    await trial.durable("c2")
    trial.hit()
    await trial.world.dockerd.kill()
    await asyncio.sleep(2)
    await trial.world.dockerd.start()


@fault("the whole machine crashes during a command, and comes back", jobs=_LONG, lost=1)
async def machine_crashed(trial: Trial) -> None:
    await trial.post()
    await trial.begun("c2")
    trial.hit()
    await trial.world.worker.crash()
    await trial.world.dockerd.kill()
    trial.world.kill_containers()
    await trial.world.dockerd.start()
    await trial.world.worker.start()
