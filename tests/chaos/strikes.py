"""Carries out the blows of a plan while an errand is under way."""

import asyncio

from examples.scripted_model import http_error
from tests.chaos.plan import Blow, Phase, Strike
from tests.chaos.store_proxy import Rule
from tests.chaos.trial import Trial
from workers.devstack.settings import Component

_DOWN_S = 1.0
_ERRORS = 12


class Striker:
    """Waits for each position, and strikes there."""

    def __init__(self, trial: Trial, blows: tuple[Blow, ...]) -> None:
        """Prepare."""
        self._trial = trial
        self._blows = blows
        self.struck: list[Blow] = []
        """What was done, in order."""

    async def run(self) -> None:
        """Strike blow after blow; returns after the last."""
        for blow in self._blows:
            job = self._trial.errand.jobs[blow.job].name
            if blow.phase is Phase.COMMAND:
                await self._trial.begun(job)
            else:
                await self._trial.considered(job)
            await self._strike(blow.strike)
            self.struck.append(blow)

    async def _strike(self, strike: Strike) -> None:
        trial, world = self._trial, self._trial.world
        match strike:
            case Strike.KILL_WORKER:
                await world.restart_worker()
            case Strike.REMOVE_CONTAINER:
                world.api.remove_container(await trial.container(), force=True, v=True)
            case Strike.KILL_CONTAINER:
                world.api.kill(await trial.container())
            case Strike.KILL_TEMPORAL | Strike.KILL_STORE:
                world.kill(Component.TEMPORAL if strike is Strike.KILL_TEMPORAL else Component.STORE)
            case Strike.STORE_ERRORS:
                world.proxy.add(Rule(status=503, times=_ERRORS))
            case Strike.CUT_UPLOADS:
                world.proxy.add(Rule(lambda request: request.writes, cut_after=64, times=_ERRORS))
            case Strike.KILL_DOCKERD | Strike.STOP_DOCKERD:
                await (world.dockerd.kill() if strike is Strike.KILL_DOCKERD else world.dockerd.stop())
                await asyncio.sleep(_DOWN_S)
                await world.dockerd.start()
            case Strike.MODEL_FAILS:
                trial.errand.fail_next(http_error(500), http_error(429, {"retry-after": "1"}))
