"""A snapshot is damaged in the store while the agent hibernates: the one before it is used, and the model told."""

from activities.snapshots import layout
from tests.chaos.errand import Job
from tests.chaos.trial import Trial, fault

# Random bytes do not compress: each snapshot has a pack of its own, of a size that damage in its middle hits.
_NOISE = "head -c 300000 /dev/urandom > /root/noise"
_JOBS = (Job("c1", f"{_NOISE}.1"), Job("c2", f"{_NOISE}.2"), Job("c3"))


async def _asleep(trial: Trial) -> tuple[list[str], str]:
    """Do the first two jobs and hibernate; the packs that only the newest snapshot needs, and its manifest."""
    await trial.post()
    await trial.answered()
    before = set(await _packs(trial))
    await trial.post()
    await trial.answered()
    await trial.agent.hibernate(timeout=60)
    status = await trial.agent.status()
    if status.snapshot is None:
        raise AssertionError("the agent hibernates without a snapshot")
    return [key for key in await _packs(trial) if key not in before], status.snapshot.ref


async def _packs(trial: Trial) -> list[str]:
    prefix = layout.packs_prefix(trial.uid)
    return [info.key async for info in trial.world.store.list(prefix)]


@fault("a chunk of the newest snapshot corrupt", jobs=_JOBS, messages=3, lost=1)
async def snapshot_chunk_corrupt(trial: Trial) -> None:
    packs, _ = await _asleep(trial)
    for key in packs:
        data = bytearray(await trial.world.store.get(key))
        middle = len(data) // 2
        data[middle : middle + 64] = bytes(byte ^ 0xFF for byte in data[middle : middle + 64])
        await trial.world.store.put(key, bytes(data))
    trial.hit()
    await trial.post()


@fault("the manifest of the newest snapshot truncated", jobs=_JOBS, messages=3, lost=1)
async def snapshot_manifest_truncated(trial: Trial) -> None:
    _, manifest = await _asleep(trial)
    data = await trial.world.store.get(manifest)
    await trial.world.store.put(manifest, data[: len(data) // 2])
    trial.hit()
    await trial.post()


@fault("an object of the newest snapshot missing", jobs=_JOBS, messages=3, lost=1)
async def snapshot_object_missing(trial: Trial) -> None:
    packs, _ = await _asleep(trial)
    await trial.world.store.delete(packs)
    trial.hit()
    await trial.post()
