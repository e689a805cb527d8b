"""Each fault once, or CHAOS_RUNS times: nothing runs twice, nothing is lost untold, the answer comes."""

import os

import pytest

from tests.chaos.cases import CASES
from tests.chaos.trial import FaultCase, FaultResult, Trial
from tests.chaos.world import ChaosWorld

pytestmark = pytest.mark.chaos

RUNS = int(os.environ.get("CHAOS_RUNS", "1"))


@pytest.mark.timeout(400)
@pytest.mark.parametrize("run", range(1, RUNS + 1))
@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
async def test_fault(world: ChaosWorld, table: list[FaultResult], case: FaultCase, run: int) -> None:
    result = await Trial(world, case).run()
    table.append(result)
    print(run, result)
    assert result.why == ""
    assert result.survived
    assert result.commands_twice == 0
    assert result.calls_lost == case.lost
    assert result.told
    assert result.seconds is not None
