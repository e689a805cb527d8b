"""What commands write: of any size, while they run, up to a bound, and from behind."""

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator

import pytest

from activities.adapters import docker_exec
from activities.errors import SandboxRefused
from activities.ports.sandbox import CommandRequest
from hibernaut.models import OutcomeKind
from tests.integration.test_sandboxes import Bench


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    made = Bench()
    yield made
    await made.boxes.destroy(made.uid, 1_000)
    await made.boxes.close()


async def test_output_of_fifty_megabytes_arrives_byte_for_byte(bench: Bench) -> None:
    container = await bench.acquire()
    sizes, hashes = {"stdout": 0, "stderr": 0}, {"stdout": hashlib.sha256(), "stderr": hashlib.sha256()}
    largest = 0

    def sink(stream: str, data: bytes) -> None:
        nonlocal largest
        sizes[stream] += len(data)
        largest = max(largest, len(data))
        hashes[stream].update(data)

    command = "head -c 50000001 /dev/urandom | tee /tmp/out; seq 100000 >&2; sha256sum </tmp/out >/tmp/sum"
    end = await bench.boxes.run(container.sandbox_id, CommandRequest("big", command, 60_000), sink, lambda: False)
    assert sizes == {"stdout": 50_000_001, "stderr": 588_895}
    assert (end.stdout_bytes, end.stderr_bytes) == (50_000_001, 588_895)
    assert hashes["stdout"].hexdigest() == bench.sh("cut -c-64 /tmp/sum").strip()
    assert hashes["stderr"].hexdigest() == hashlib.sha256(b"".join(b"%d\n" % n for n in range(1, 100_001))).hexdigest()
    assert largest <= docker_exec.PART_BYTES


async def test_output_is_handed_on_while_the_command_runs(bench: Bench) -> None:
    container = await bench.acquire()
    parts: list[tuple[str, bytes]] = []
    told = asyncio.Event()

    async def sink(stream: str, data: bytes) -> None:
        parts.append((stream, data))
        await asyncio.sleep(0)
        told.set()

    command = "printf one; printf two >&2; until [ -e /tmp/go ]; do sleep 0.1; done; printf three"
    request = CommandRequest("live", command, 60_000)
    running = asyncio.create_task(bench.boxes.run(container.sandbox_id, request, sink, lambda: False))
    await asyncio.wait_for(told.wait(), 20)
    assert not running.done()
    bench.sh("touch /tmp/go")
    end = await running
    assert b"".join(data for stream, data in parts if stream == "stdout") == b"onethree"
    assert b"".join(data for stream, data in parts if stream == "stderr") == b"two"
    assert (parts[0], end.stdout_bytes, end.stderr_bytes) == (("stdout", b"one"), 8, 3)


@pytest.mark.parametrize("stubborn", [False, True])
async def test_a_command_that_writes_too_much_is_ended_and_its_beginning_kept(bench: Bench, *, stubborn: bool) -> None:
    await bench.acquire()
    trap = "trap '' TERM; " if stubborn else ""
    result = await bench.run(f"{trap}echo first; while :; do seq 100000; done", max_output_bytes=1_000_000)
    assert result.end.kind is OutcomeKind.INTERRUPTED
    assert result.end.detail == "ended: it wrote more than 1000000 bytes (max_output_bytes)"
    assert len(result.stdout) == result.end.stdout_bytes == 1_000_000
    assert result.stdout.startswith("first\n1\n2\n")
    assert bench.sh("stat -c %s /run/hibernaut/exec/t1/stdout") == "1000000\n", "the disk has its room again"
    assert bench.sh("pgrep -c seq || true") == "0\n"


async def test_of_a_command_that_wrote_too_much_and_ended_the_beginning_is_kept(bench: Bench) -> None:
    await bench.acquire()
    result = await bench.run("head -c 3000000 /dev/zero; exit 5", max_output_bytes=1_048_576)
    assert (result.end.kind, result.end.exit_code, len(result.stdout)) == (OutcomeKind.EXIT, 5, 1_048_576)
    assert "only the first 1048576 bytes" in result.end.detail


async def test_output_without_a_line_break_is_no_trouble(bench: Bench) -> None:
    await bench.acquire()
    result = await bench.run("head -c 2000000 /dev/zero | tr '\\0' x")
    assert result.stdout == "x" * 2_000_000


async def test_a_long_command_may_write_much(bench: Bench) -> None:
    await bench.acquire()
    result = await bench.run(f"seq 500000 # {'x' * 100_000}")
    assert result.stdout == "".join(f"{n}\n" for n in range(1, 500_001))


@pytest.mark.parametrize(
    ("part", "expected"),
    [("echo hibernaut2 part 4194304 0; head -c 4194304 /dev/zero", 9_000_000), ("echo hibernaut2 part 0 0", 0)],
)
async def test_a_forged_size_ends_at_the_bound(bench: Bench, part: str, expected: int) -> None:
    await bench.acquire()
    bench.sh(
        "cat >/run/hibernaut/supervise <<'X'\n"
        "echo hibernaut2 serving\n"
        "while read -r verb rest; do case $verb in\n"
        "run) echo hibernaut2 end exit 0 1 2 999999999999999 0 - 0 0;;\n"
        f"read) {part};;\n"
        "esac; done\nX\n"
    )
    result = await bench.run("true", max_output_bytes=9_000_000)
    assert len(result.stdout) == result.end.stdout_bytes == expected


@pytest.mark.parametrize("endless", ["exec cat /dev/zero", "echo hibernaut2 serving; exec yes", "exec yes ''"])
async def test_endless_noise_is_refused(bench: Bench, endless: str) -> None:
    await bench.acquire()
    bench.sh(f"cat >/run/hibernaut/supervise <<'X'\n{endless}\nX\n")
    with pytest.raises(SandboxRefused, match=r"tampered|no supervisor"):
        await bench.run("true")


async def test_links_in_the_journal_lead_to_nothing_endless(bench: Bench) -> None:
    await bench.acquire()
    await bench.run("echo text", exec_id="linked")
    bench.sh(
        "cd /run/hibernaut/exec/linked; ln -sf /dev/zero stdout; ln -sf /etc/hostname stderr; "
        "echo exit 0 1 2 999999999999999 3 - 0 >end"
    )
    result = await bench.run("true", exec_id="linked")
    assert (result.stdout, len(result.stderr)) == ("", 3)


async def test_what_runs_on_in_the_background_is_listed_and_writes_no_more_output(bench: Bench) -> None:
    await bench.acquire()
    result = await bench.run("(sleep 0.5; echo late; touch /tmp/late; sleep 300) & sleep 301 & echo now")
    assert (result.end.exit_code, result.stdout) == (0, "now\n")
    names = [line.split(" ", 1) for line in result.end.background]
    assert sorted(name for _, name in names) in (["bash", "sleep", "sleep"], ["sleep", "sleep"])
    assert all(bench.sh(f"cat /proc/{pid}/comm").strip() == name for pid, name in names)
    async with asyncio.timeout(20):
        while not bench.sh("ls /tmp").count("late"):
            await asyncio.sleep(0.05)
    assert (await bench.run("whatever", exec_id="t1")).stdout == "now\n"
    many = await bench.run("for n in $(seq 30); do sleep 302 & done")
    assert len(many.end.background) == 20
    assert not (await bench.run("true")).end.background


async def test_a_process_with_a_forged_name_forges_nothing(bench: Bench) -> None:
    await bench.acquire()
    named = "cp /bin/sleep '/tmp/x) S 1 1 1'; '/tmp/x) S 1 1 1' 300 &"
    broken = 'n=$(printf \'/tmp/a\\nb\'); cp /bin/sleep "$n"; "$n" 300 &'
    bell = 'n=$(printf \'/tmp/a\\007\'); cp /bin/sleep "$n"; "$n" 300 &'
    result = await bench.run(f"{named} {broken} {bell} sleep 0.2")
    assert sorted(line.split(" ", 1)[1] for line in result.end.background) == ["?", "a b", "x) S 1 1 1"]


async def test_a_timeout_reaches_a_process_that_left_the_group(bench: Bench) -> None:
    await bench.acquire()
    result = await bench.run("set -m; sleep 611 & set +m; trap '' TERM; echo x; sleep 612", timeout_ms=500)
    assert (result.end.kind, result.stdout) == (OutcomeKind.TIMEOUT, "x\n")
    assert bench.sh("pgrep -fc 'sleep 61[12]' || true") == "0\n"


async def test_no_zombie_is_left_and_a_stop_is_obeyed(bench: Bench) -> None:
    container = await bench.acquire()
    await bench.run("for n in 1 2 3 4 5; do (sleep 0.1 & exec sleep 0.01) & done; sleep 0.4")
    async with asyncio.timeout(20):
        while "Z" in bench.sh("cat /proc/[0-9]*/stat 2>/dev/null | sed 's/.*) //' | cut -c1"):
            await asyncio.sleep(0.1)
    assert bench.sh("cat /proc/1/comm") in {"docker-init\n", "tini\n"}
    bench.daemon.api.stop(container.sandbox_id, timeout=60)
    state = bench.inspect()["State"]
    assert state["ExitCode"] in {0, 143}, "it was not killed after the time of grace"


async def test_a_reader_that_goes_away_leaves_the_command_running(bench: Bench) -> None:
    container = await bench.acquire()
    request = CommandRequest("left", "echo begun; until [ -e /tmp/go ]; do sleep 0.1; done; echo done", 60_000)
    told = asyncio.Event()
    running = asyncio.create_task(
        bench.boxes.run(container.sandbox_id, request, lambda _stream, _data: told.set(), lambda: False)
    )
    await asyncio.wait_for(told.wait(), 20)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    bench.sh("touch /tmp/go")
    assert (await bench.run(request.command, exec_id="left")).stdout == "begun\ndone\n"
    deadline = time.monotonic() + 20
    while bench.boxes._runner._channels._busy:
        assert time.monotonic() < deadline, "its channel was given back"
        await asyncio.sleep(0.05)
