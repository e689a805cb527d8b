"""The Docker adapter of the sandbox port, on a real daemon."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from uuid import uuid4

import pytest
from docker.errors import NotFound

from activities.adapters.docker_client import Daemon
from activities.adapters.docker_sandboxes import DockerSandboxes
from activities.errors import ImageNotFound, InvalidCommand, PathNotUsable, SandboxLost, SandboxRefused
from activities.ports.sandbox import CommandEnd, CommandRequest, Container, SandboxIdentity
from hibernaut.models import FileType, Network, SandboxSpec


@dataclass
class Result:
    end: CommandEnd
    stdout: str
    stderr: str


class Bench:
    """One agent's sandboxes, removed at the end."""

    def __init__(self) -> None:
        self.daemon = Daemon()
        self.boxes = DockerSandboxes(self.daemon)
        self.uid = uuid4().hex
        self.container: Container | None = None
        self._count = 0

    async def acquire(self, generation: int = 1, **spec: object) -> Container:
        identity = SandboxIdentity("test", self.uid, generation)
        self.container = await self.boxes.acquire(identity, SandboxSpec.model_validate(spec), None)
        return self.container

    async def run(
        self,
        command: str,
        *,
        timeout_ms: int = 20_000,
        exec_id: str | None = None,
        stop: asyncio.Event | None = None,
        started_at: str = "",
        max_output_bytes: int = 1 << 30,
        attach_only: bool = False,
    ) -> Result:
        assert self.container is not None
        self._count += 1
        parts = {"stdout": b"", "stderr": b""}

        def sink(stream: str, data: bytes) -> None:
            parts[stream] += data

        request = CommandRequest(
            exec_id or f"t{self._count}", command, timeout_ms, started_at, max_output_bytes, attach_only
        )
        interrupted = stop.is_set if stop is not None else (lambda: False)
        end = await self.boxes.run(self.container.sandbox_id, request, sink, interrupted)
        return Result(end, parts["stdout"].decode(), parts["stderr"].decode())

    def sh(self, script: str) -> str:
        """Run a script as root beside the supervisor."""
        assert self.container is not None
        code, output = self.daemon.client.containers.get(self.container.sandbox_id).exec_run(
            ["sh", "-euc", script], user="0", workdir="/"
        )
        assert code == 0, (script, output)
        assert isinstance(output, bytes)
        return output.decode()

    def inspect(self) -> dict[str, dict[str, object]]:
        assert self.container is not None
        return self.daemon.api.inspect_container(self.container.sandbox_id)


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    made = Bench()
    yield made
    await made.boxes.destroy(made.uid, 1_000)
    await made.boxes.close()


async def test_the_spec_becomes_the_container(bench: Bench) -> None:
    await bench.acquire(cpus=0.5, memory_mb=256, pids=100, env={"COLOUR": "blue"}, workdir="/srv/job", user="agent")
    host = bench.inspect()["HostConfig"]
    assert host["NetworkMode"] == "none"
    assert host["Memory"] == host["MemorySwap"] == 256 * 1024 * 1024
    assert host["NanoCpus"] == 500_000_000
    assert host["PidsLimit"] == 100
    assert host["CapDrop"] == ["ALL"]
    options = host["SecurityOpt"]
    assert isinstance(options, list)
    assert options[0] == "no-new-privileges"
    seen = await bench.run('echo "$COLOUR $PWD $(id -un)"; ls /sys/class/net')
    assert seen.stdout == "blue /srv/job agent\nlo\n"


async def test_the_labels_name_agent_and_generation(bench: Bench) -> None:
    await bench.acquire(3)
    labels = bench.inspect()["Config"]["Labels"]
    assert isinstance(labels, dict)
    assert labels["hibernaut.agent"] == "test"
    assert labels["hibernaut.agent-uid"] == bench.uid
    assert labels["hibernaut.generation"] == "3"


async def test_an_open_network_is_dockers_own(bench: Bench) -> None:
    await bench.acquire(network=Network(mode="open").model_dump())
    assert bench.inspect()["HostConfig"]["NetworkMode"] == "bridge"


async def test_directory_and_variables_persist_and_an_exit_keeps_them(bench: Bench) -> None:
    await bench.acquire()
    await bench.run("cd /tmp && export A='x y' B=2; exit 3")
    assert (await bench.run('echo "$PWD|$A|$B"')).stdout == "/tmp|x y|2\n"
    await bench.run("unset A")
    assert (await bench.run('echo "[$A]"')).stdout == "[]\n"


async def test_a_vanished_directory_is_told_and_left(bench: Bench) -> None:
    await bench.acquire()
    await bench.run("mkdir /tmp/gone && cd /tmp/gone && rmdir /tmp/gone")
    after = await bench.run("pwd")
    assert after.stdout == "/home/agent\n"
    assert "/tmp/gone is gone" in after.stderr
    assert (await bench.run("pwd")).stderr == ""


async def test_an_exec_id_runs_once_however_often_it_is_asked_for(bench: Bench) -> None:
    await bench.acquire()
    command = "echo run >> /root/count; sleep 0.5; cat /root/count"
    racing = await asyncio.gather(*(bench.run(command, exec_id="same") for _ in range(6)))
    later = await bench.run(command, exec_id="same")
    assert {result.stdout for result in [*racing, later]} == {"run\n"}


async def test_a_timeout_ends_the_whole_process_group_and_keeps_the_output(bench: Bench) -> None:
    await bench.acquire()
    result = await bench.run("echo before; (trap '' TERM; sleep 987) & sleep 987", timeout_ms=400)
    assert (result.end.kind, result.end.exit_code, result.stdout) == ("timeout", None, "before\n")
    assert (await bench.run("pgrep -f 'sleep 987' | wc -l")).stdout.strip() == "0"


async def test_an_interrupt_ends_it_and_says_so(bench: Bench) -> None:
    await bench.acquire()
    stop = asyncio.Event()
    asyncio.get_running_loop().call_later(0.5, stop.set)
    result = await bench.run("echo begun; sleep 900", stop=stop)
    assert (result.end.kind, result.stdout) == ("interrupted", "begun\n")


async def test_a_process_in_the_background_does_not_hold_the_command(bench: Bench) -> None:
    await bench.acquire()
    result = await bench.run("sleep 300 & echo started", timeout_ms=10_000)
    assert (result.end.kind, result.end.exit_code, result.stdout) == ("exit", 0, "started\n")


async def test_a_command_of_a_megabyte_arrives_whole(bench: Bench) -> None:
    await bench.acquire()
    text = "äb" * 250_000
    assert (await bench.run(f"printf %s '{text}' | wc -c")).stdout.strip() == str(len(text.encode()))


async def test_a_command_no_shell_can_be_given(bench: Bench) -> None:
    await bench.acquire()
    with pytest.raises(InvalidCommand, match="NUL"):
        await bench.run("echo \0")
    with pytest.raises(InvalidCommand, match="1500000"):
        await bench.run("x" * 1_500_001)


async def test_a_forged_result_is_refused_not_believed(bench: Bench) -> None:
    container = await bench.acquire()
    await bench.run(
        "printf '#!/bin/sh\necho hibernaut2 serving; read -r line; echo hibernaut2 end exit 0 0 0 99999999999999999999 "
        "0 - 1 0\n' > /run/hibernaut/supervise"
    )
    bench.boxes._runner.forget(container.sandbox_id)
    with pytest.raises(SandboxRefused, match="tampered"):
        await bench.run("true")


async def test_destruction_is_complete(bench: Bench) -> None:
    container = await bench.acquire()
    volumes = [mount["Name"] for mount in bench.daemon.api.inspect_container(container.sandbox_id)["Mounts"]]
    assert volumes
    assert await bench.boxes.destroy(bench.uid, 1) == [container.sandbox_id]
    for name in volumes:
        with pytest.raises(NotFound):
            bench.daemon.api.inspect_volume(name)
    with pytest.raises(SandboxLost):
        await bench.run("true")


async def test_a_new_generation_replaces_the_older_ones_only(bench: Bench) -> None:
    first = await bench.acquire(1)
    second = await bench.acquire(2)
    assert await bench.boxes.destroy(bench.uid, 1) == []
    assert first.sandbox_id != second.sandbox_id
    assert (await bench.run("echo here")).stdout == "here\n"


async def test_what_docker_does_not_have_is_named(bench: Bench) -> None:
    with pytest.raises(ImageNotFound, match="no-such-image:9"):
        await bench.acquire(image="no-such-image:9")
    with pytest.raises(SandboxRefused, match="kata"):
        await bench.acquire(runtime="kata")


async def test_files_are_put_listed_and_read(bench: Bench) -> None:
    container = await bench.acquire(user="agent")

    async def chunks() -> AsyncIterator[bytes]:
        for number in range(40):
            yield bytes([number]) * 50_000

    path = "/home/agent/new/folder/data bin"
    assert await bench.boxes.put_file(container.sandbox_id, path, 0o640, chunks()) == 2_000_000
    (entry,) = await bench.boxes.list_files(container.sandbox_id, "/home/agent/new/folder")
    assert (entry.path, entry.type, entry.size, entry.mode, entry.uid) == (path, FileType.FILE, 2_000_000, 0o640, 1000)
    content = b"".join([piece async for piece in bench.boxes.read_file(container.sandbox_id, path)])
    assert content == b"".join(bytes([number]) * 50_000 for number in range(40))
    assert (await bench.run("ls /run/hibernaut/in")).stdout == ""


@pytest.mark.parametrize("name", ["caf\udce9", "a\nb\n", "\\012 '$(x)`\"*", "-n", "\u6587\x1b[2J"])
async def test_any_name_is_listed_and_read(bench: Bench, name: str) -> None:
    container = await bench.acquire()
    octal = "".join(f"\\0{byte:03o}" for byte in name.encode("utf-8", "surrogateescape"))
    made = await bench.run(f"mkdir /root/d; n=$(printf '%b.' '{octal}'); printf found > \"/root/d/${{n%.}}\"")
    assert made.stderr == ""
    (entry,) = await bench.boxes.list_files(container.sandbox_id, "/root/d")
    path = f"/root/d/{name}"
    assert entry.path == path
    assert [one.path for one in await bench.boxes.list_files(container.sandbox_id, path)] == [path]
    assert b"".join([piece async for piece in bench.boxes.read_file(container.sandbox_id, path)]) == b"found"


@pytest.mark.parametrize("path", ["/nope", "/etc", "relative", "/etc/../../x\0y"])
async def test_a_path_that_cannot_be_read(bench: Bench, path: str) -> None:
    container = await bench.acquire()
    with pytest.raises(PathNotUsable):
        [piece async for piece in bench.boxes.read_file(container.sandbox_id, path)]
