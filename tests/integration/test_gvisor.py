"""Sandboxes under gVisor, on a real daemon of their own: everything that holds under runc holds there."""

import asyncio
import gc
import os
import random
import signal
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import pytest

from activities.adapters.docker_captures import DockerCaptures
from activities.adapters.docker_client import Daemon
from activities.adapters.docker_sandboxes import DockerSandboxes
from activities.adapters.local_store import LocalStore
from activities.errors import SandboxLost, SandboxUnavailable
from activities.ports.sandbox import CommandEnd, CommandRequest, Container, SandboxIdentity
from activities.snapshots.engine import Engine
from hibernaut.models import OutcomeKind, SandboxSpec
from tests.support.dockerd import SecondDockerd
from tests.support.gvisor import RUNTIME, gvisor_dockerd

pytestmark = pytest.mark.slow

CLIENT = """
import asyncio, sys
from activities.adapters.docker_client import Daemon
from activities.adapters.docker_sandboxes import DockerSandboxes
from activities.ports.sandbox import CommandRequest
async def main(host, sandbox_id, exec_id, command):
    boxes = DockerSandboxes(Daemon(host))
    await boxes.run(sandbox_id, CommandRequest(exec_id, command, 60_000), lambda _stream, _data: None, lambda: False)
asyncio.run(main(*sys.argv[1:]))
"""


@dataclass
class Result:
    end: CommandEnd
    stdout: str
    stderr: str


class Guest:
    """One agent's sandboxes under gVisor."""

    def __init__(self, host: str) -> None:
        self.host = host
        self.daemon = Daemon(host)
        self.boxes = DockerSandboxes(self.daemon)
        self.uid = uuid4().hex
        self.container: Container | None = None
        self._count = 0

    @property
    def sandbox_id(self) -> str:
        assert self.container is not None
        return self.container.sandbox_id

    async def acquire(self, generation: int = 1, **spec: object) -> Container:
        wanted = SandboxSpec.model_validate({"runtime": RUNTIME, **spec})
        self.container = await self.boxes.acquire(SandboxIdentity("test", self.uid, generation), wanted, None)
        return self.container

    async def run(
        self,
        command: str,
        *,
        exec_id: str | None = None,
        timeout_ms: int = 60_000,
        started_at: str = "",
        stop: asyncio.Event | None = None,
    ) -> Result:
        self._count += 1
        parts = {"stdout": b"", "stderr": b""}

        def sink(stream: str, data: bytes) -> None:
            parts[stream] += data

        request = CommandRequest(exec_id or f"t{self._count}", command, timeout_ms, started_at=started_at)
        interrupted = stop.is_set if stop is not None else (lambda: False)
        end = await self.boxes.run(self.sandbox_id, request, sink, interrupted)
        return Result(end, parts["stdout"].decode(), parts["stderr"].decode())

    async def look(self, script: str) -> str:
        """Run a script beside the supervisor, as Docker would."""

        def run() -> bytes:
            exec_id = self.daemon.api.exec_create(self.sandbox_id, ["sh", "-c", script], user="0")["Id"]
            return b"".join(data for _, data in self.daemon.frames(exec_id))

        return (await asyncio.to_thread(run)).decode()

    async def marked(self, path: str) -> None:
        """Until a command has left its mark."""
        async with asyncio.timeout(60):
            while not await self.look(f"cat {path} 2>/dev/null"):
                await asyncio.sleep(0.05)


@pytest.fixture(scope="module")
async def dockerd(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[SecondDockerd]:
    async with gvisor_dockerd(tmp_path_factory.mktemp("gvisor")) as daemon:
        yield daemon


@pytest.fixture
async def guest(dockerd: SecondDockerd) -> AsyncIterator[Guest]:
    made = Guest(dockerd.host)
    yield made
    await made.boxes.destroy(made.uid, 1_000)
    await made.boxes.close()


async def test_it_is_gvisor_that_runs_the_commands(guest: Guest) -> None:
    await guest.acquire(env={"COLOUR": "blue"}, workdir="/srv/job", user="agent")
    assert "gVisor" in (await guest.run("dmesg")).stdout
    result = await guest.run('echo "$COLOUR $PWD $(id -un)"; echo said >&2; cd /tmp; export A="x y"; exit 7')
    assert (result.stdout, result.stderr) == ("blue /srv/job agent\n", "said\n")
    assert (result.end.kind, result.end.exit_code) == (OutcomeKind.EXIT, 7)
    assert (await guest.run('echo "$PWD|$A"')).stdout == "/tmp|x y\n"


async def test_output_of_megabytes_arrives_whole(guest: Guest) -> None:
    await guest.acquire()
    result = await guest.run("seq 300000; seq 400000 >&2")
    assert result.stdout == "".join(f"{n}\n" for n in range(1, 300_001))
    assert result.stderr == "".join(f"{n}\n" for n in range(1, 400_001))


async def test_an_exec_id_runs_once_however_often_it_is_asked_for(guest: Guest) -> None:
    await guest.acquire()
    command = "echo run >>/root/count; sleep 1; cat /root/count"
    racing = await asyncio.gather(*(guest.run(command, exec_id="same") for _ in range(4)))
    later = await guest.run(command, exec_id="same")
    assert {result.stdout for result in [*racing, later]} == {"run\n"}
    assert await guest.look("cat /root/count") == "run\n"


async def test_a_timeout_ends_the_whole_process_group_and_keeps_the_output(guest: Guest) -> None:
    await guest.acquire()
    result = await guest.run("echo before; (trap '' TERM; sleep 987) & sleep 987", timeout_ms=800)
    assert (result.end.kind, result.end.exit_code, result.stdout) == (OutcomeKind.TIMEOUT, None, "before\n")
    assert await guest.look("pgrep -x sleep") == ""


async def test_an_interrupt_ends_it_and_says_so(guest: Guest) -> None:
    await guest.acquire()
    stop = asyncio.Event()
    running = asyncio.create_task(guest.run("echo begun | tee /root/mark; sleep 900", stop=stop))
    await guest.marked("/root/mark")
    stop.set()
    result = await running
    assert (result.end.kind, result.stdout) == (OutcomeKind.INTERRUPTED, "begun\n")
    assert await guest.look("pgrep -x sleep") == ""


async def test_what_a_command_leaves_in_the_background_is_listed(guest: Guest) -> None:
    await guest.acquire()
    result = await guest.run("sleep 300 & echo started")
    assert (result.end.kind, result.end.exit_code, result.stdout) == (OutcomeKind.EXIT, 0, "started\n")
    (left,) = result.end.background
    assert left == f"{(await guest.look('pgrep -x sleep')).strip()} sleep"


async def test_more_processes_than_the_spec_allows_do_not_end_the_sandbox(guest: Guest) -> None:
    await guest.acquire(pids=64)
    many = await guest.run("for i in $(seq 200); do sleep 900 & done; jobs -p | wc -l; kill $(jobs -p); wait")
    assert many.stdout == "200\n"
    assert (await guest.run("echo alive")).stdout == "alive\n"


async def _client(guest: Guest, exec_id: str, command: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-c", CLIENT, guest.host, guest.sandbox_id, exec_id, command, stderr=asyncio.subprocess.DEVNULL
    )


async def test_a_command_outlives_every_client_that_is_killed(guest: Guest) -> None:
    await guest.acquire()
    command = "echo run >>/root/count; until [ -e /root/go ]; do sleep 0.1; done; cat /root/count; echo end >&2; exit 5"
    for _ in range(2):
        client = await _client(guest, "kept", command)
        await guest.marked("/root/count")
        os.kill(client.pid, signal.SIGKILL)
        await client.wait()
    await guest.look("touch /root/go")
    result = await guest.run(command, exec_id="kept")
    assert (result.end.kind, result.end.exit_code) == (OutcomeKind.EXIT, 5)
    assert (result.stdout, result.stderr) == ("run\n", "end\n")
    assert await guest.look("cat /root/count") == "run\n"


async def test_clients_killed_at_any_moment_never_run_a_command_twice(guest: Guest) -> None:
    await guest.acquire()
    moments = random.Random(7)
    for number in range(8):
        command = f"echo run >>/root/count{number}; seq 20000; cat /root/count{number}"
        client = await _client(guest, f"c{number}", command)
        # A Python starts meanwhile: some die before they asked, some in the middle, some after.
        await asyncio.sleep(moments.uniform(0.4, 2.5))
        if client.returncode is None:
            client.kill()
        await client.wait()
        result = await guest.run(command, exec_id=f"c{number}")
        assert result.stdout == "".join(f"{n}\n" for n in range(1, 20_001)) + "run\n"
        assert await guest.look(f"cat /root/count{number}") == "run\n"


async def test_a_restart_of_the_container_is_told_and_nothing_runs_again(guest: Guest) -> None:
    first = await guest.acquire()
    command = "echo run >>/root/count; sleep 900"
    done = await guest.run("echo done >/root/done; cat /root/done", exec_id="done", started_at=first.started_at)
    assert done.stdout == "done\n"
    running = asyncio.create_task(guest.run(command, exec_id="cut", started_at=first.started_at))
    await guest.marked("/root/count")
    await asyncio.to_thread(guest.daemon.api.restart, guest.sandbox_id, timeout=1)
    with pytest.raises(SandboxLost):
        await running
    with pytest.raises(SandboxLost) as caught:
        await guest.run(command, exec_id="cut", started_at=first.started_at)
    assert caught.value.end is not None
    assert caught.value.end.kind is OutcomeKind.UNKNOWN
    # `--overlay2=none`: without it the files of before would be gone.
    assert await guest.look("cat /root/count /root/done") == "run\ndone\n"
    state = await guest.boxes.inspect(guest.sandbox_id)
    assert state.started_at != first.started_at
    assert (await guest.run("echo on", started_at=state.started_at)).stdout == "on\n"


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # see its last lines
async def test_a_sandbox_whose_daemon_was_killed_is_started_again_with_its_files(
    guest: Guest, dockerd: SecondDockerd
) -> None:
    first = await guest.acquire()
    command = "echo run >>/root/count; sleep 900"
    running = asyncio.create_task(guest.run(command, exec_id="cut", started_at=first.started_at))
    await guest.marked("/root/count")
    await dockerd.kill()
    with pytest.raises(SandboxUnavailable, match="no Docker daemon answers"):
        await running
    await dockerd.start()
    # A daemon that finds containers it lost sight of ends them.
    assert not (await guest.boxes.inspect(guest.sandbox_id)).running
    assert await guest.boxes.start(guest.sandbox_id) != first.started_at
    with pytest.raises(SandboxLost) as caught:
        await guest.run(command, exec_id="cut", started_at=first.started_at)
    assert caught.value.end is not None
    assert caught.value.end.kind is OutcomeKind.UNKNOWN
    assert await guest.look("cat /root/count") == "run\n"
    # docker-py leaves the sockets of a daemon that died in mid-answer to the garbage collector, which is to find them
    # here and not in the midst of another test.
    del running, caught
    gc.collect()


async def test_files_go_in_and_come_out(guest: Guest) -> None:
    await guest.acquire(user="agent")

    async def chunks() -> AsyncIterator[bytes]:
        for number in range(40):
            yield bytes([number]) * 50_000

    content = b"".join([piece async for piece in chunks()])
    assert await guest.boxes.put_file(guest.sandbox_id, "/home/agent/new/data", 0o640, chunks()) == len(content)
    assert (
        b"".join([piece async for piece in guest.boxes.read_file(guest.sandbox_id, "/home/agent/new/data")]) == content
    )
    (entry,) = await guest.boxes.list_files(guest.sandbox_id, "/home/agent/new")
    assert (entry.size, entry.mode, entry.uid) == (len(content), 0o640, 1000)


async def test_a_snapshot_moves_to_another_sandbox(guest: Guest, tmp_path: Path) -> None:
    engine = Engine(LocalStore(tmp_path), DockerCaptures(guest.daemon))
    first = await guest.acquire(1)
    await engine.prepare(first.sandbox_id, agent_uid=guest.uid, generation=1)
    await guest.run("echo kept >/root/kept; rm /etc/issue; head -c 3000000 /dev/urandom >/opt/big; cd /opt; export A=1")
    digest = (await guest.run("sha256sum /opt/big")).stdout
    taken = await engine.take(
        first.sandbox_id, agent_uid=guest.uid, generation=1, number=1, parent=None, progress=lambda _: None
    )
    assert taken.capture == "api"
    second = await guest.acquire(2)
    await engine.prepare(second.sandbox_id, agent_uid=guest.uid, generation=2)
    done = await engine.restore(
        second.sandbox_id, agent_uid=guest.uid, generation=2, ref=taken.ref, progress=lambda _: None
    )
    assert done.restored == taken.ref
    seen = await guest.run('sha256sum /opt/big; cat /root/kept; ls /etc/issue; echo "$PWD $A"')
    assert seen.stdout == f"{digest}kept\n/opt 1\n"
