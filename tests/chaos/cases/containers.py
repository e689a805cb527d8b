"""The container is taken away, or runs out of something."""

from tests.chaos.errand import LEDGER, Job
from tests.chaos.trial import Trial, fault

_LONG = (Job("c1"), Job("c2", seconds=4), Job("c3"))
_HOG = "python3 -c 'import sys; kept = [bytearray(1 << 26) for _ in range(64)]'"
_FILL = "dd if=/dev/zero of=/dev/shm/full bs=1M"


@fault("container `docker rm -f` during a command", jobs=_LONG, lost=1)
async def container_removed_during_exec(trial: Trial) -> None:
    await trial.post()
    await trial.begun("c2")
    container = await trial.container()
    trial.hit()
    trial.world.api.remove_container(container, force=True, v=True)


@fault("container `docker rm -f` while the model thinks", thinking={2: 4.0})
async def container_removed_during_model_call(trial: Trial) -> None:
    await trial.post()
    await trial.asked(2)
    await trial.durable("c2")
    container = await trial.container()
    trial.hit()
    trial.world.api.remove_container(container, force=True, v=True)


@fault("container `docker rm -f` between two turns", messages=2, jobs=(Job("c1"), Job("c2")))
async def container_removed_between_turns(trial: Trial) -> None:
    await trial.post()
    await trial.answered()
    container = await trial.container()
    trial.hit()
    trial.world.api.remove_container(container, force=True, v=True)
    await trial.post()


@fault("container `docker kill` during a command", jobs=_LONG, lost=1)
async def container_killed_during_exec(trial: Trial) -> None:
    await trial.post()
    await trial.begun("c2")
    container = await trial.container()
    trial.hit()
    trial.world.api.kill(container)


@fault("container `docker restart` during a command", jobs=_LONG, lost=1)
async def container_restarted_during_exec(trial: Trial) -> None:
    await trial.post()
    await trial.begun("c2")
    container = await trial.container()
    trial.hit()
    trial.world.api.restart(container, timeout=1)


@fault(
    "a command runs out of memory",
    jobs=(Job("c1"), Job("c2", _HOG, fails=True), Job("c3")),
    spec={"sandbox": {"memory_mb": 128}},
)
async def command_out_of_memory(trial: Trial) -> None:
    await trial.post()
    await trial.begun("c2")
    trial.hit()


@fault("container's first process killed, as by the OOM killer", jobs=_LONG, lost=1)
async def container_out_of_memory(trial: Trial) -> None:
    await trial.post()
    await trial.begun("c2")
    container = await trial.container()
    trial.hit()
    trial.world.kill_process(int(trial.world.api.inspect_container(container)["State"]["Pid"]))


@fault(
    "disk full in the sandbox",
    jobs=(Job("c1"), Job("c2", _FILL + "; exit 28", fails=True), Job("c3", "rm /dev/shm/full")),
)
async def memory_disk_full(trial: Trial) -> None:
    await trial.post()
    await trial.begun("c2")
    trial.hit()


@fault(
    "the disk of the host full under the sandbox",
    jobs=(
        Job("c1"),
        Job("c2", "dd if=/dev/zero of=/root/full bs=64M", fails=True),
        Job("c3", "rm -f /root/full"),
        Job("c4", f"wc -l {LEDGER}"),
    ),
)
async def host_disk_full(trial: Trial) -> None:
    await trial.post()
    await trial.begun("c2")
    trial.hit()
