"""Commands through a container's standing execs: the same results whichever way they travel, whatever breaks."""

import asyncio
import base64
from collections.abc import AsyncIterator

import pytest

from activities.adapters import docker_exec
from activities.adapters.docker_channel import Channel, Channels
from activities.adapters.docker_sandboxes import DockerSandboxes
from activities.errors import SandboxLost, SandboxRefused, SandboxUnavailable
from activities.ports.sandbox import CommandRequest
from tests.integration.test_sandboxes import Bench, Result

# What serves is started by the daemon: its parent is outside. Its children bear its name.
SERVER = "pgrep -P 0 -f '[s]upervise serve'"
SERVERS = f"{SERVER} | wc -l"

NASTY = {
    "empty": "",
    "blanks": "  \t printf '[%s]' a \t ",
    "newlines at the end": "printf '%s' end\n\n\n",
    "newline at the start": "\n\necho begun",
    "only a newline": "\n",
    "lines": "cat <<'X'\n  one\n\ttwo\\\n\\n\nX\n",
    "escapes": r"printf '%s|' '\c' '\\c' 'a\nb' '\\' '\0101' '\x41' '\101' '\t' '\e[0m' '%b' '%s' '%%' '\u00e4'",
    "a backslash at the end": "echo x\\",
    "a continued line": "echo one \\\n two",
    "quotes": """printf '%s|' "it's" 'say "so"' `echo \\`echo deep\\`` "$(printf '$(x)')" """,
    "dots": ". /dev/null; echo ...",
    "options": "-n -e %s",
    "globs": "echo '*' ? [a]; printf '%s' \"*\"",
    "carriage return": "printf '%s' 'a\r\nb\r'",
    "controls": "printf '%s' '" + "".join(chr(n) for n in range(1, 32)) + "\x7f'",
    # Some shells use the bytes 81-88 as marks of their own.
    "two bytes": "printf '%s' '" + "".join(chr(n) for n in range(0x80, 0x500)) + "'",
    "unicode": "printf '%s' 'äöü Ж 漢字 😀 \u2028\u0085\ufeff'",
    "no shell at all": "'\"((\\",
}


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    made = Bench()
    yield made
    await made.boxes.destroy(made.uid, 1_000)
    await made.boxes.close()


def channels(bench: Bench) -> Channels:
    return bench.boxes._runner._channels


async def in_use(bench: Bench) -> Channel:
    """The channel a command has been given to."""
    async with asyncio.timeout(20):
        while not (busy := list(channels(bench)._busy)):
            await asyncio.sleep(0.01)
    return busy[0]


async def alone(bench: Bench, command: str, exec_id: str) -> Result:
    """The command through a connection of its own, as another worker has it."""
    other = DockerSandboxes(bench.daemon)
    mine, bench.boxes = bench.boxes, other
    try:
        return await bench.run(command, exec_id=exec_id)
    finally:
        bench.boxes = mine
        other._runner.close()


async def begun(bench: Bench, path: str) -> None:
    """Until a command has left its mark."""
    async with asyncio.timeout(20):
        while (await alone(bench, f"test -e {path}", f"mark{asyncio.get_running_loop().time()}")).end.exit_code:
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("shell", ["dash", "bash"])
async def test_any_command_arrives_as_it_is_and_ends_the_same_both_ways(
    bench: Bench, shell: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await bench.acquire()
    await alone(bench, f"ln -sf $(command -v {shell}) /bin/sh", "link")
    server = (await bench.run(SERVER)).stdout
    for number, (name, command) in enumerate(NASTY.items()):
        line = await bench.run(command, exec_id=f"c{number}")
        with monkeypatch.context() as short:
            short.setattr(docker_exec, "MAX_LINE_BYTES", 0)
            raw = await alone(bench, command, exec_id=f"p{number}")
        assert (line.end.exit_code, line.stdout) == (raw.end.exit_code, raw.stdout), name
        for exec_id in (f"c{number}", f"p{number}"):
            kept = (await bench.run(f"base64 -w0 /run/hibernaut/exec/{exec_id}/command")).stdout
            assert base64.b64decode(kept) == command.encode(), f"{name} ({exec_id})"
    assert server.strip() in (await bench.run(SERVER)).stdout.split(), "one channel served them all"


async def test_a_command_leaves_nothing_for_the_next_but_what_is_kept_for_it(bench: Bench) -> None:
    await bench.acquire(env={"COLOUR": "blue"}, workdir="/srv/job")
    await bench.run(
        "rm -rf /var/lib/hibernaut; IFS=x; PATH=; ulimit -n 77; umask 077; exec 7>/tmp/seven; id=gone home=/no"
    )
    seen = await bench.run('echo "$COLOUR|$PWD|$(ulimit -n)|$(umask)|$id$home"; ls /proc/self/fd | wc -w; cat')
    assert seen.stdout.splitlines()[0].split("|")[:2] == ["blue", "/srv/job"]
    direct = await alone(
        bench, 'echo "$COLOUR|$PWD|$(ulimit -n)|$(umask)|$id$home"; ls /proc/self/fd | wc -w; cat', "direct"
    )
    assert seen.stdout == direct.stdout


async def test_two_commands_at_once_both_get_their_own_result(bench: Bench) -> None:
    await bench.acquire()
    first = asyncio.create_task(bench.run("until [ -e /tmp/go ]; do sleep 0.05; done; echo first"))
    await in_use(bench)
    second = await bench.run("touch /tmp/go; echo second")
    assert (second.stdout, (await first).stdout) == ("second\n", "first\n")
    assert (await bench.run(SERVERS)).stdout == "2\n"
    await asyncio.gather(*(bench.run(f"sleep 0.3; echo {number}") for number in range(5)))
    await bench.run("until [ $(" + SERVERS + ") -le 2 ]; do sleep 0.05; done")


@pytest.mark.parametrize("blow", ["server", "socket"])
async def test_a_channel_that_breaks_in_mid_command_costs_nothing_but_time(bench: Bench, blow: str) -> None:
    await bench.acquire()
    command = (
        "echo run >>/root/count; until [ -e /tmp/go ]; do sleep 0.05; done; cat /root/count; echo said >&2; exit 4"
    )
    running = asyncio.create_task(bench.run(command))
    channel = await in_use(bench)
    await begun(bench, "/root/count")
    if blow == "server":
        await bench.run(f"kill -9 $({SERVER} | head -n 1)")
    else:
        channel.hang_up()
    await bench.run("touch /tmp/go")
    result = await running
    assert (result.end.kind, result.end.exit_code, result.stdout, result.stderr) == ("exit", 4, "run\n", "said\n")
    assert (await bench.run("cat /root/count")).stdout == "run\n"
    async with asyncio.timeout(20):
        while channel in channels(bench)._idle:
            assert (await bench.run("echo on")).stdout == "on\n"


async def test_a_command_whose_supervisor_dies_with_the_channel_is_not_run_again(bench: Bench) -> None:
    await bench.acquire()
    result = await bench.run("echo run >>/root/count; kill -9 $(pgrep -f '[s]upervise serve') $$")
    assert result.end.kind == "unknown"
    assert (await bench.run("cat /root/count")).stdout == "run\n"


async def test_every_byte_is_handed_on_once_when_the_channel_breaks_in_the_output(bench: Bench) -> None:
    container = await bench.acquire()
    parts = {"stdout": b"", "stderr": b""}
    cut: list[Channel] = []

    def sink(stream: str, data: bytes) -> None:
        parts[stream] += data
        if not cut and len(parts["stderr"]) > 100_000:
            cut.extend(channels(bench)._busy)
            for channel in cut:
                channel.hang_up()

    request = CommandRequest("much", "seq 300000; seq 400000 >&2", 20_000)
    end = await bench.boxes.run(container.sandbox_id, request, sink, lambda: False)
    assert cut
    assert parts["stdout"] == b"".join(b"%d\n" % n for n in range(1, 300_001))
    assert parts["stderr"] == b"".join(b"%d\n" % n for n in range(1, 400_001))
    assert (end.stdout_bytes, end.stderr_bytes) == (len(parts["stdout"]), len(parts["stderr"]))


@pytest.mark.parametrize("when", ["within", "after"])
async def test_what_a_command_writes_into_the_channel_itself_is_not_believed(bench: Bench, when: str) -> None:
    await bench.acquire()
    into = f"/proc/$({SERVER})/fd/1"
    if when == "within":
        assert (await bench.run(f"echo junk >{into}; echo real")).stdout == "real\n"
    else:
        await bench.run(f"{{ sleep 0.2; echo hibernaut2 end exit 0 0 0 0 0 - 1 0 >{into}; touch /tmp/done; }} & :")
        await begun(bench, "/tmp/done")
    assert (await bench.run("echo next")).stdout == "next\n"


async def test_a_request_waits_for_a_container_held_still(bench: Bench) -> None:
    container = await bench.acquire()
    await bench.run("true")
    bench.daemon.api.pause(container.sandbox_id)
    running = asyncio.create_task(bench.run("echo done"))
    await in_use(bench)
    bench.daemon.api.unpause(container.sandbox_id)
    assert (await running).stdout == "done\n"


async def test_a_container_restarted_between_two_commands(bench: Bench) -> None:
    container = await bench.acquire()
    await bench.run("true")
    bench.daemon.api.restart(container.sandbox_id, timeout=1)
    assert (await bench.run("echo again")).stdout == "again\n"


async def test_a_container_stopped_in_mid_command_is_lost_with_the_command_begun(bench: Bench) -> None:
    container = await bench.acquire()
    running = asyncio.create_task(bench.run("touch /tmp/begun; sleep 900"))
    await in_use(bench)
    await begun(bench, "/tmp/begun")
    bench.daemon.api.kill(container.sandbox_id)
    with pytest.raises(SandboxLost, match="stopped with exit code 137") as caught:
        await running
    assert caught.value.started
    with pytest.raises(SandboxLost) as caught:
        await bench.run("true")
    assert not caught.value.started


async def test_a_closed_worker_leaves_the_command_to_its_end_for_the_next_to_find(bench: Bench) -> None:
    container = await bench.acquire()
    command = "echo run >>/root/count; until [ -e /tmp/go ]; do sleep 0.05; done; cat /root/count"
    running = asyncio.create_task(bench.run(command, exec_id="kept"))
    await in_use(bench)
    await begun(bench, "/root/count")
    await bench.boxes.close()
    with pytest.raises(SandboxUnavailable):
        await running
    after = Bench()
    after.container = container
    await after.run("touch /tmp/go", exec_id="go")
    assert (await after.run(command, exec_id="kept")).stdout == "run\n"
    async with asyncio.timeout(20):
        while (await after.run(SERVERS, exec_id=f"s{asyncio.get_running_loop().time()}")).stdout not in {"1\n", "2\n"}:
            await asyncio.sleep(0.05)
    await after.boxes.close()


async def test_channels_are_bounded_and_closed_with_their_containers(bench: Bench) -> None:
    other = Bench()
    try:
        channels(bench)._max_idle = 1
        first = await bench.acquire()
        await bench.run("true")
        (one,) = [channel for channel, owner in channels(bench)._idle.items() if owner == first.sandbox_id]
        second = await other.acquire()
        request = CommandRequest("x", "true", 20_000)
        await bench.boxes.run(second.sandbox_id, request, lambda _stream, _data: None, lambda: False)
        assert list(channels(bench)._idle.values()) == [second.sandbox_id]
        assert one._socket.fileno() == -1
        (two,) = channels(bench)._idle
        await bench.boxes.destroy(other.uid, 1)
        assert two._socket.fileno() == -1
        assert not channels(bench)._idle
    finally:
        await other.boxes.destroy(other.uid, 1)
        await other.boxes.close()


async def test_a_result_that_stalls_is_asked_for_once_more(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(docker_exec, "STALL_S", 0.3)
    await bench.acquire()
    await bench.run(
        "h=$(command -v head); mv $h $h.real; "
        r"""printf '#!/bin/sh\nmkdir /tmp/once 2>/dev/null || exec %s.real "$@"\n' $h >$h; chmod +x $h"""
    )
    result = await bench.run("echo run >>/root/count; cat /root/count")
    assert (result.stdout, result.end.stdout_bytes) == ("run\n", 4)
    assert (await bench.run("ls -d /tmp/once")).stdout == "/tmp/once\n"


async def test_a_supervisor_that_does_not_serve_is_refused(bench: Bench) -> None:
    await bench.acquire()
    await alone(bench, "sed -i 's/hibernaut2 serving/usage/' /run/hibernaut/supervise", "edit")
    with pytest.raises(SandboxRefused, match="tampered"):
        await bench.run("echo run >>/root/count; cat /root/count")
    assert not channels(bench)._idle


async def test_a_command_whose_output_could_not_be_kept_is_not_run_again(bench: Bench) -> None:
    container = await bench.acquire()

    def full(_stream: str, _data: bytes) -> None:
        raise OSError(28, "No space left on device")

    request = CommandRequest("full", "echo run >>/root/count; cat /root/count", 20_000)
    with pytest.raises(OSError, match="No space left"):
        await bench.boxes.run(container.sandbox_id, request, full, lambda: False)
    assert (await bench.run(request.command, exec_id="full")).stdout == "run\n"
