"""Random changes to files, snapshots and restores, compared by rsync."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.conformance.fidelity_machine import FidelityMachine

# What fails is not made smaller: each attempt takes seconds. The blob that is printed repeats it.
SETTINGS = settings(
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
    phases=(Phase.explicit, Phase.reuse, Phase.generate),
    print_blob=True,
)


@pytest.mark.slow
def test_whatever_was_comes_back() -> None:
    run_state_machine_as_test(FidelityMachine, settings=settings(SETTINGS, max_examples=15, stateful_step_count=25))
