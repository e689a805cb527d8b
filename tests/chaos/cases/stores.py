"""The object store goes away, slows down, or fails in the middle of something."""

import asyncio

from tests.chaos.errand import Job
from tests.chaos.store_proxy import Request, Rule
from tests.chaos.trial import Trial, fault
from workers.devstack.settings import Component

_JOBS = (Job("c1"), Job("c2", seconds=2), Job("c3"))
_LARGE = (Job("c1"), Job("c2", "head -c 3000000 /dev/urandom > /root/noise", seconds=4), Job("c3", "cksum /root/noise"))
"""The second one waits before it writes: its upload is not over before the store is broken."""
_PACKS = "/snapshots/packs/"


@fault("object store down for 10 s", jobs=_JOBS)
async def store_down(trial: Trial) -> None:
    await trial.post()
    await trial.begun("c2")
    trial.hit()
    await trial.world.stack.stop_component(Component.STORE)
    await asyncio.sleep(10)
    await trial.world.stack.start_component(Component.STORE)


@fault("object store `kill -9`, started again on its files", jobs=_JOBS)
async def store_killed(trial: Trial) -> None:
    await trial.post()
    await trial.begun("c2")
    trial.hit()
    trial.world.kill(Component.STORE)


@fault("object store slow: 2 s for each request", jobs=_JOBS)
async def store_slow(trial: Trial) -> None:
    await trial.post()
    await trial.begun("c2")
    trial.hit()
    slow = trial.world.proxy.add(Rule(delay=2.0))
    await trial.answered()
    assert slow.hits > 0


@fault("object store answers 500, twenty times", jobs=_JOBS)
async def store_fails(trial: Trial) -> None:
    await _broken(trial, Rule(status=500, times=20))


@fault("object store answers 503, twenty times", jobs=_JOBS)
async def store_unavailable(trial: Trial) -> None:
    await _broken(trial, Rule(status=503, times=20))


@fault("object store: connection cut in mid-upload, six times", jobs=_LARGE)
async def store_cut_upload(trial: Trial) -> None:
    await _broken(trial, Rule(_of_pack, cut_after=100_000, times=6), replies=2)


@fault("object store refuses every upload for 10 s, a snapshot under way", jobs=_LARGE)
async def store_refuses_snapshot(trial: Trial) -> None:
    rule = trial.world.proxy.add(Rule(lambda it: it.writes and it.of_snapshots, status=500))
    await trial.post()
    await asyncio.wait_for(rule.met.wait(), 60)
    trial.hit()
    await asyncio.sleep(10)
    assert await trial.agent.answer(trial.messages[-1]) is not None
    trial.world.proxy.remove(rule)


async def _broken(trial: Trial, rule: Rule, *, replies: int = 0) -> None:
    """Let the store fail from the second command on; the clock runs from the first failure, and this many replies."""
    await trial.post()
    await trial.begun("c2")
    trial.world.proxy.add(rule)
    await asyncio.wait_for(rule.met.wait(), 60)
    await trial.asked(replies)
    trial.hit()
    await trial.answered()
    assert rule.hits == rule.times, f"the fault was met {rule.hits} times"


def _of_pack(request: Request) -> bool:
    return request.writes and _PACKS in request.path
