"""The journal of commands: whatever is killed, and when, no command runs twice, and what is unknown is called so."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from activities.adapters.docker_channel import token
from activities.adapters.docker_sandboxes import DockerSandboxes
from activities.errors import SandboxLost
from hibernaut.models import OutcomeKind
from tests.integration.test_sandboxes import Bench, Result
from tests.support.busybox import build_busybox_image

COUNTED = "echo run >>/root/count; cat /root/count"

# A place in the supervisor's script, and what must hold when everything dies there: the command's end and its runs.
EDGES = {
    "before the claim": ('if mkdir "$dir"', OutcomeKind.EXIT, 1),
    "claimed, not signed": (': >"$dir/claim,$me"', OutcomeKind.EXIT, 1),
    "claimed": ("unset _hibernaut_command", OutcomeKind.EXIT, 1),
    "its text written": ("umask 0\n", OutcomeKind.EXIT, 1),
    "started": ("PATH=$path\n    shell", OutcomeKind.UNKNOWN, 0),
    "ended, not recorded": ("ended=$now kind=exit", OutcomeKind.UNKNOWN, 1),
    "recorded": ("emit\n                [ $((out", OutcomeKind.EXIT, 1),
}


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    made = Bench()
    yield made
    await made.boxes.destroy(made.uid, 1_000)
    await made.boxes.close()


def boot(bench: Bench) -> str:
    return token(bench.inspect()["State"]["StartedAt"])


def runs(bench: Bench) -> int:
    return int(bench.sh("cat /root/count 2>/dev/null | wc -l"))


async def by_many(bench: Bench, command: str, exec_id: str, workers: int) -> list[Result]:
    """The same command, asked for by several workers at once."""
    mine = bench.boxes
    others = [DockerSandboxes(bench.daemon) for _ in range(workers)]

    async def ask(boxes: DockerSandboxes) -> Result:
        bench.boxes = boxes
        # `run` takes the bench's sandboxes before it first waits.
        return await bench.run(command, exec_id=exec_id)

    try:
        return await asyncio.gather(*(ask(boxes) for boxes in others))
    finally:
        bench.boxes = mine
        for boxes in others:
            boxes._runner.close()


VICTIMS = {
    "all of them": "kill -9 0",
    "the one that serves": "kill -9 $$",
    "the one that is there": "look self; kill -9 $pid",
}


@pytest.mark.parametrize("victims", VICTIMS)
@pytest.mark.parametrize("edge", EDGES)
async def test_killed_at_any_edge_it_runs_once_or_is_unknown(bench: Bench, edge: str, victims: str) -> None:
    await bench.acquire()
    place, kind, count = EDGES[edge]
    fault = f"mkdir /once 2>/dev/null && {{ {VICTIMS[victims]}; }};"
    script = "/run/hibernaut/supervise"
    before, found, after = bench.sh(f"cat {script}").partition(place)
    assert found
    bench.sh(f"cat >{script} <<'HIBERNAUT'\n{before}\n{fault}{found}{after}\nHIBERNAUT\n")
    result = await bench.run(COUNTED)
    if victims == "the one that serves" and kind is OutcomeKind.UNKNOWN:
        # The command's own supervisor lives on, and records the end.
        kind, count = OutcomeKind.EXIT, 1
    if victims == "the one that is there" and edge == "started":
        # Its supervisor sees it die, as any command that is killed.
        kind = OutcomeKind.EXIT
        assert result.end.exit_code == 137
    assert (result.end.kind, runs(bench)) == (kind, count)
    assert bench.sh("ls -d /once") == "/once\n", "the fault was met"
    if kind is OutcomeKind.UNKNOWN:
        assert "supervisor was killed" in result.end.detail
    else:
        assert result.stdout == "run\n" * count
    again = await bench.run(COUNTED, exec_id="t1")
    assert (again.end, again.stdout) == (result.end, result.stdout), "asked again, it is told the same"
    assert runs(bench) == count


async def test_a_command_whose_supervisor_is_killed_is_awaited_to_its_end(bench: Bench) -> None:
    await bench.acquire()
    command = "echo begun; echo run >>/root/count; kill -9 $PPID; sleep 1.5; echo said; exit 7"
    result = await bench.run(command)
    assert (result.end.kind, result.end.exit_code, result.stdout) == (OutcomeKind.UNKNOWN, None, "begun\nsaid\n")
    assert runs(bench) == 1


async def test_a_timeout_holds_without_the_supervisor(bench: Bench) -> None:
    await bench.acquire()
    result = await bench.run("kill -9 $PPID; echo begun; sleep 600", timeout_ms=1_500)
    assert (result.end.kind, result.stdout) == (OutcomeKind.TIMEOUT, "begun\n")


@pytest.mark.parametrize("found", ["claim", "gap", "many in the gap", "reused pid"])
async def test_the_claim_of_a_dead_supervisor_is_taken_over_by_one(bench: Bench, found: str) -> None:
    await bench.acquire()
    exec_dir, here = "/run/hibernaut/exec/dead", boot(bench)
    await bench.run("true")
    bench.sh(f"mkdir {exec_dir}")
    if found == "claim":
        bench.sh(f": >'{exec_dir}/claim,99999,5,{here}'")
    elif found == "reused pid":
        # The pid lives, and is another process's now.
        bench.sh(f": >'{exec_dir}/claim,1,5,{here}'")
    else:
        for pid in (99997, 99998, 99999)[: 3 if "many" in found else 1]:
            bench.sh(f": >'/run/hibernaut/try/dead,{pid},5,{here}'")
    results = await by_many(bench, COUNTED, "dead", 6)
    assert [(result.end.kind, result.stdout) for result in results] == [(OutcomeKind.EXIT, "run\n")] * 6
    assert runs(bench) == 1


@pytest.mark.parametrize("leader", ["1", "99999"])
async def test_started_and_gone_is_unknown_also_when_the_pid_lives_again(bench: Bench, leader: str) -> None:
    await bench.acquire()
    exec_dir, here = "/run/hibernaut/exec/was", boot(bench)
    bench.sh(
        f"mkdir {exec_dir}; : >'{exec_dir}/claim,{leader},5,{here}'; echo part >{exec_dir}/stdout; "
        f"echo '{leader} 5 {leader} 6 100 2000 1000000 {here}' >{exec_dir}/started"
    )
    result = await bench.run(COUNTED, exec_id="was")
    assert (result.end.kind, result.stdout, runs(bench)) == (OutcomeKind.UNKNOWN, "part\n", 0)


async def test_racing_retries_run_it_once(bench: Bench) -> None:
    await bench.acquire()
    results = await by_many(bench, f"sleep 0.3; {COUNTED}", "raced", 8)
    assert {(result.end.kind, result.stdout) for result in results} == {(OutcomeKind.EXIT, "run\n")}
    assert runs(bench) == 1


async def test_a_restart_of_the_container_is_told_and_nothing_is_run_again(bench: Bench) -> None:
    container = await bench.acquire()
    assert container.started_at == bench.inspect()["State"]["StartedAt"]
    done = await bench.run("echo finished; exit 3", exec_id="done", started_at=container.started_at)
    running = asyncio.create_task(bench.run("echo begun; echo run >>/root/count; sleep 600", exec_id="cut"))
    async with asyncio.timeout(20):
        while runs(bench) == 0:
            await asyncio.sleep(0.05)
    bench.daemon.api.restart(container.sandbox_id, timeout=5)
    with contextlib.suppress(SandboxLost):
        # It may be asked for while the container is down.
        await running
    cut = await bench.run("not run", exec_id="cut")
    assert (cut.end.kind, cut.stdout) == (OutcomeKind.UNKNOWN, "begun\n")
    assert cut.end.detail == "the container was restarted after the command had started"
    for exec_id, kind in (("done", OutcomeKind.EXIT), ("cut", OutcomeKind.UNKNOWN), ("new", OutcomeKind.NOT_RUN)):
        with pytest.raises(SandboxLost, match="was restarted") as caught:
            await bench.run(COUNTED, exec_id=exec_id, started_at=container.started_at)
        assert caught.value.end is not None
        assert (caught.value.end.kind, caught.value.started) == (kind, kind is not OutcomeKind.NOT_RUN)
    assert (done.end.exit_code, runs(bench)) == (3, 1)
    now = str(bench.inspect()["State"]["StartedAt"])
    assert (await bench.run(COUNTED, exec_id="new", started_at=now)).stdout == "run\nrun\n"


@pytest.mark.parametrize("found", ["claim", "gap", "started"])
async def test_a_claim_from_before_a_restart_is_unknown(bench: Bench, found: str) -> None:
    await bench.acquire()
    bench.sh("mkdir /run/hibernaut/exec/old")
    names = {"claim": "exec/old/claim,1,5,2020", "gap": "try/old,1,5,2020", "started": "exec/old/claim,1,5,2020"}
    bench.sh(f": >/run/hibernaut/{names[found]}")
    if found == "started":
        bench.sh("echo '1 5 1 6 100 2000 1000000 2020' >/run/hibernaut/exec/old/started")
    result = await bench.run(COUNTED, exec_id="old")
    assert (result.end.kind, runs(bench)) == (OutcomeKind.UNKNOWN, 0)
    assert "restarted" in result.end.detail


async def test_attaching_starts_nothing(bench: Bench) -> None:
    await bench.acquire()
    assert (await bench.run(COUNTED, exec_id="a", attach_only=True)).end.kind is OutcomeKind.NOT_RUN
    assert (await bench.run(COUNTED, exec_id="a")).stdout == "run\n"
    found = await bench.run("whatever", exec_id="a", attach_only=True)
    assert (found.end.kind, found.end.exit_code, found.stdout, runs(bench)) == (OutcomeKind.EXIT, 0, "run\n", 1)


@pytest.mark.parametrize("bound", ["keep_directories=6", "keep_bytes=300000"])
async def test_the_journal_is_pruned_oldest_first_but_never_of_the_newest_call(bench: Bench, bound: str) -> None:
    await bench.acquire(image=build_busybox_image(bench.daemon))
    bench.sh(f"sed -i 's/^{bound.partition('=')[0]}=.*/{bound}/' /run/hibernaut/journal")
    background = asyncio.create_task(bench.run("until [ -e /tmp/go ]; do sleep 0.1; done", exec_id="long-i0"))
    for number in range(3):
        await bench.run("head -c 200000 /dev/zero", exec_id=f"big{number}-i0")
        # This `ls` knows whole seconds.
        bench.sh(f"touch -t 20200101000{number} /run/hibernaut/exec/big{number}-i0")
    for number in range(30):
        await bench.run(COUNTED, exec_id=f"call-i{number}")
    async with asyncio.timeout(20):
        while bench.sh("ls /run/hibernaut/exec/*/stdout | grep -c big || true") != (
            "0\n" if bound.startswith("keep_dir") else "1\n"
        ):
            await asyncio.sleep(0.05)
    kept = {*bench.sh("ls /run/hibernaut/exec").split()}
    assert {"long-i0", *(f"call-i{number}" for number in range(30))} <= kept
    assert ("big0-i0" in kept) is bound.startswith("keep_bytes")
    if "big0-i0" in kept:
        late = await bench.run(COUNTED, exec_id="big0-i0")
        assert (late.end.exit_code, late.end.stdout_bytes, late.stdout) == (0, 200_000, "")
        assert "no longer kept" in late.end.detail
    assert (await bench.run(COUNTED, exec_id="call-i7")).stdout == "run\n" * 8, "what ended is remembered"
    assert runs(bench) == 30
    bench.sh("touch /tmp/go")
    assert (await background).end.kind is OutcomeKind.EXIT
