"""A long errand with a fault every few jobs: CHAOS_STEPS jobs, decided by CHAOS_SEED."""

import asyncio
import os

import pytest

from tests.chaos.errand import Job
from tests.chaos.plan import LOSES, Phase, plan
from tests.chaos.strikes import Striker
from tests.chaos.trial import FaultCase, Trial
from tests.chaos.world import ChaosWorld

pytestmark = pytest.mark.chaos

SEED = int(os.environ.get("CHAOS_SEED", "7"))
STEPS = int(os.environ.get("CHAOS_STEPS", "20"))
SECONDS_A_BLOW = 60.0


@pytest.mark.timeout(3600)
async def test_a_long_errand_under_random_faults(world: ChaosWorld) -> None:
    blows = plan(SEED, STEPS)
    # Jobs that are struck last a moment, so that the blow falls while they run.
    seconds = {blow.job: 3.0 for blow in blows if blow.phase is Phase.COMMAND}
    jobs = [Job(f"c{number}", seconds=seconds.get(number, 0.0)) for number in range(STEPS)]
    pauses = {blow.job: 3.0 for blow in blows if blow.phase is Phase.MODEL_CALL}
    strikers: list[Striker] = []

    async def play(trial: Trial) -> None:
        trial.errand.pauses = {f"c{number}": pause for number, pause in pauses.items()}
        await trial.post()
        striker = Striker(trial, blows)
        strikers.append(striker)
        trial.hit()
        async with asyncio.TaskGroup() as group:
            group.create_task(striker.run())
            await trial.answered()

    losing = [blow for blow in blows if blow.strike in LOSES]
    case = FaultCase(
        title=f"seed {SEED}",
        play=play,
        jobs=jobs,
        spec={"max_recoveries": len(blows) + 1},
        patience=120 + SECONDS_A_BLOW * len(blows) + 3 * STEPS,
    )
    print("plan:", *(f"{blow.job}: {blow.strike} during the {blow.phase}" for blow in blows), sep="\n  ")
    result = await Trial(world, case).run()
    print(result)
    assert result.why == ""
    assert tuple(strikers[0].struck) == blows
    assert result.commands_twice == 0
    assert result.calls_lost <= len(losing)
    assert result.told
