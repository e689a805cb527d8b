from tests.chaos.plan import plan


def test_a_seed_decides_the_whole_plan() -> None:
    assert plan(7, 100) == plan(7, 100)
    assert plan(7, 100) != plan(8, 100)
    jobs = [blow.job for blow in plan(7, 100)]
    assert jobs == sorted(set(jobs))
    assert len(jobs) > 12
