"""Who runs commands, in which image: root supervises, the spec's user runs, and any POSIX image will do."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from activities.errors import SandboxRefused
from hibernaut.models import OutcomeKind
from tests.integration.test_sandboxes import Bench
from tests.support.busybox import build_busybox_image

DEBIAN = "hibernaut/sandbox:latest"
BUSYBOX = "busybox"


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    made = Bench()
    yield made
    await made.boxes.destroy(made.uid, 1_000)
    await made.boxes.close()


def image(bench: Bench, name: str) -> str:
    return build_busybox_image(bench.daemon) if name == BUSYBOX else name


@pytest.mark.parametrize("name", [DEBIAN, BUSYBOX])
@pytest.mark.parametrize(
    ("user", "expected"),
    [
        ("", "0:0 0 /root "),
        ("root", "0:0 0 /root "),
        ("agent", "1000:1000 1000 2000 /home/agent agent"),
        ("1000", "1000:1000 1000 2000 /home/agent agent"),
        ("agent:extra", "1000:2000 2000 /home/agent agent"),
    ],
)
async def test_commands_run_as_the_user_of_the_spec(bench: Bench, name: str, user: str, expected: str) -> None:
    await bench.acquire(image=image(bench, name), user=user or None)
    if "2000 /home" in expected and name == DEBIAN:
        bench.sh("groupadd -g 2000 -U agent extra")
    seen = await bench.run('echo "$(id -u):$(id -g) $(id -G) $HOME $USER"')
    if name == BUSYBOX and user == "agent:extra":
        # Its `start-stop-daemon` keeps the user's other groups.
        assert seen.stdout.startswith("1000:2000 ")
    else:
        assert seen.stdout == f"{expected}\n"
    assert "CapEff:\t0000000000000000" in (await bench.run("cat /proc/self/status")).stdout or "0:0" in expected


@pytest.mark.parametrize("name", [DEBIAN, BUSYBOX])
async def test_the_journal_is_out_of_the_users_reach(bench: Bench, name: str) -> None:
    await bench.acquire(image=image(bench, name), user="agent")
    await bench.run("echo secret", exec_id="earlier")
    for attempt in (
        "ls /run/hibernaut",
        "ls /run/hibernaut/exec",
        "cat /run/hibernaut/exec/earlier/stdout",
        "mkdir /run/hibernaut/exec/mine",
        "echo exit 0 1 2 0 0 - 0 >/run/hibernaut/exec/mine/end",
        "echo x >>/run/hibernaut/supervise",
        "echo x >>/run/hibernaut/wrap",
        "rm -f /run/hibernaut/wrap",
        "cat /run/hibernaut/spec",
        "for p in /proc/[0-9]*; do case $(tr '\\0' ' ' <$p/cmdline) in *serve*) echo x >$p/fd/1 || exit 1;; esac; done",
        "kill -9 $PPID",
        "kill -9 1",
    ):
        refused = await bench.run(attempt)
        assert refused.end.exit_code not in {0, None}, attempt
    # What it may do: write where its output goes, by whatever name.
    shared = await bench.run("echo one; echo two >>/dev/stdout; echo three >>/proc/self/fd/2")
    assert (shared.stdout, shared.stderr) == ("one\ntwo\n", "three\n")


async def test_an_image_that_cannot_drop_to_the_user_is_refused_with_what_to_install(bench: Bench) -> None:
    await bench.acquire(user="agent")
    bench.sh("rm $(command -v setpriv) $(command -v chroot) $(command -v start-stop-daemon)")
    with pytest.raises(SandboxRefused, match="install util-linux"):
        await bench.run("true")


async def test_a_user_nobody_knows_is_refused(bench: Bench) -> None:
    await bench.acquire(user="nosuch")
    with pytest.raises(SandboxRefused, match="/etc/passwd"):
        await bench.run("true")


async def test_a_number_without_a_name_runs_too(bench: Bench) -> None:
    await bench.acquire(user="4321:4322")
    assert (await bench.run('echo "$(id -u):$(id -g) $(id -G) $HOME"')).stdout == "4321:4322 4322 /\n"


@pytest.mark.slow
@pytest.mark.parametrize("user", ["root", "agent"])
async def test_busybox_alone_does_everything(bench: Bench, user: str) -> None:
    await bench.acquire(image=image(bench, BUSYBOX), user=user)
    assert (await bench.run("cd /tmp; export A='x y'; echo err >&2; exit 7")).end.exit_code == 7
    assert (await bench.run('echo "$PWD $A"')).stdout == "/tmp x y\n"
    text = "äb" * 100_000
    assert (await bench.run(f"printf %s '{text}' | wc -c")).stdout.strip() == str(len(text.encode()))
    big = await bench.run("seq 400000")
    assert big.stdout == "".join(f"{n}\n" for n in range(1, 400_001))
    late = await bench.run("echo begun; sleep 600 & sleep 601", timeout_ms=1_200)
    assert (late.end.kind, late.stdout) == (OutcomeKind.TIMEOUT, "begun\n")
    stop = asyncio.Event()
    asyncio.get_running_loop().call_later(0.5, stop.set)
    assert (await bench.run("sleep 602", stop=stop)).end.kind is OutcomeKind.INTERRUPTED
    left = await bench.run("sleep 603 & sleep 0.2; echo on")
    assert [line.split(" ", 1)[1] for line in left.end.background] == ["sleep"]
    full = await bench.run("yes", max_output_bytes=1_048_576)
    assert (full.end.kind, len(full.stdout)) == (OutcomeKind.INTERRUPTED, 1_048_576)
    assert bench.sh("ps | grep -c 'sleep 60[0-2]' || true") == "0\n"


async def test_files_go_in_and_out_as_the_user(bench: Bench) -> None:
    container = await bench.acquire(image=image(bench, BUSYBOX), user="agent")

    async def chunks() -> AsyncIterator[bytes]:
        yield b"content"

    assert await bench.boxes.put_file(container.sandbox_id, "/home/agent/file", 0o600, chunks()) == 7
    assert (
        await bench.run("cat ~/file; stat -c '%u %a' ~/file; ls -A /run/hibernaut/in")
    ).stdout == "content1000 600\n"
    assert bench.sh("ls -A /run/hibernaut/in") == ""
