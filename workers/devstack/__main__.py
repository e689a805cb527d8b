"""`python -m workers.devstack up [--detach] [--servers-only] | down | status | env`."""

import argparse
import asyncio
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

from workers.devstack.errors import AlreadyRunning, DevStackError
from workers.devstack.home import ConnectionFile, HomeLock
from workers.devstack.settings import ALL, CHECKOUT, SERVERS, Component, default_home
from workers.devstack.stack import DevStack

_READY_SECONDS = 150.0
_STOP_SECONDS = 75.0


def say(text: str) -> None:
    """Tell the person at the terminal one thing."""
    print(f"devstack: {text}", flush=True)


def main() -> int:
    """0 when what was asked for holds, 1 when it cannot be had, 3 when `status` finds nothing running."""
    parser = argparse.ArgumentParser(prog="python -m workers.devstack", description="The embedded development stack.")
    verbs = parser.add_subparsers(dest="verb", required=True)
    up = verbs.add_parser("up", help="start it and stay until Ctrl-C")
    up.add_argument("--detach", action="store_true", help="return once it is ready")
    up.add_argument("--servers-only", action="store_true", help="Temporal and the S3 server, to run a worker by hand")
    verbs.add_parser("down", help="stop it; its state stays")
    verbs.add_parser("status", help="say whether it runs, and where")
    verbs.add_parser("env", help="print the settings of a worker or client as shell exports; they hold secrets")
    chosen = parser.parse_args()
    home = default_home(os.environ)
    try:
        match chosen.verb:
            case "up" if chosen.detach:
                return detach(home, servers_only=chosen.servers_only)
            case "up":
                return asyncio.run(run(home, SERVERS if chosen.servers_only else ALL))
            case "down":
                return down(home)
            case "env":
                return exports(home)
            case _:
                return status(home)
    except DevStackError as error:
        print(f"devstack: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


async def run(home: Path, components: frozenset[Component]) -> int:
    """Run the stack until a signal asks for its end."""
    stack = DevStack(home, components=components, say=say)
    ending = asyncio.Event()

    def end() -> None:
        if ending.is_set():
            say("stopping at once")
            stack.kill()
        else:
            say("stopping (once more to stop at once)")
            ending.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, end)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # under nohup it stays ignored
        loop.add_signal_handler(signal.SIGHUP, end)
    say(f"starting on {home}")
    starting, asked = asyncio.create_task(stack.start()), asyncio.create_task(ending.wait())
    try:
        await asyncio.wait({starting, asked}, return_when=asyncio.FIRST_COMPLETED)
        if starting.done():
            await starting
            describe(home)
            say("Ctrl-C stops it; its state stays")
            await ending.wait()
        else:
            starting.cancel()
            await asyncio.wait({starting})
    except AlreadyRunning as error:
        return found(home, error)
    finally:
        asked.cancel()
        await stack.stop()
    say("stopped")
    return 0


def found(home: Path, error: AlreadyRunning) -> int:
    """Answer a second `up`: the first one serves as well, once it is ready."""
    say(error.message)
    deadline = time.monotonic() + _READY_SECONDS
    while ConnectionFile.read(home) is None:
        if time.monotonic() > deadline or HomeLock(home).holder() is None:
            say("it does not become ready; see its logs, or stop it with `make down`")
            return 1
        time.sleep(0.2)
    describe(home)
    return 0


def detach(home: Path, *, servers_only: bool) -> int:
    """Start the stack in a process of its own and return once it is ready."""
    holder = HomeLock(home).holder()
    if holder is not None:
        return found(home, AlreadyRunning(f"A development stack runs already on {home} (pid {holder}).", pid=holder))
    log = home / "logs" / "devstack.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    say(f"starting on {home} in the background (log: {log})")
    with log.open("ab") as output:
        start = output.tell()
        process = subprocess.Popen(
            [sys.executable, "-m", "workers.devstack", "up", *(["--servers-only"] if servers_only else [])],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            cwd=CHECKOUT,
            env={**os.environ, "HIBERNAUT_HOME": str(home)},
        )
    deadline = time.monotonic() + _READY_SECONDS
    while True:
        connection = ConnectionFile.read(home)
        if connection is not None and connection.pid == process.pid:
            describe(home)
            say("`make down` stops it; its state stays")
            return 0
        code = process.poll()
        if code is not None or time.monotonic() > deadline:
            with log.open(encoding="utf-8", errors="replace") as words:
                words.seek(start)
                print(words.read(), file=sys.stderr, end="")
            if code is None:
                process.terminate()
                say(f"not ready within {_READY_SECONDS:.0f} s; stopped")
            return 1
        time.sleep(0.1)


def down(home: Path) -> int:
    """Stop the stack of this home, whoever started it."""
    lock = HomeLock(home)
    pid = lock.holder()
    if not pid:
        say(f"nothing runs on {home}")
        return 0
    os.kill(pid, signal.SIGTERM)
    say(f"asked pid {pid} to stop")
    deadline = time.monotonic() + _STOP_SECONDS
    while lock.holder() is not None:
        if time.monotonic() > deadline:
            say(f"pid {pid} does not stop within {_STOP_SECONDS:.0f} s; see {home / 'logs'}")
            return 1
        time.sleep(0.1)
    say("stopped; its state stays")
    return 0


def status(home: Path) -> int:
    """Say whether the stack of this home runs."""
    pid = HomeLock(home).holder()
    if pid is None:
        say(f"nothing runs on {home}")
        return 3
    say(f"runs on {home} (pid {pid})")
    describe(home)
    return 0


def exports(home: Path) -> int:
    """Print what a worker started by hand needs in its environment."""
    for name, value in DevStack(home).env.items():
        print(f"export {name}={shlex.quote(value)}")
    return 0


def describe(home: Path) -> None:
    """Print where everything is, and what to do next."""
    connection = ConnectionFile.read(home)
    if connection is None:
        say("not ready yet")
        return
    rows = {
        "Temporal web UI": connection.ui_url,
        "Temporal": f"{connection.temporal_address}, namespace {connection.temporal_namespace}",
        "object store": f"{connection.store} at {connection.s3_endpoint}",
        "gateway": connection.gateway_url,
        "logs": str(home / "logs"),
    }
    for name, value in rows.items():
        print(f"  {name:<16} {value}", flush=True)
    print('  next: .venv/bin/hibernaut run NAME "..." in another terminal', flush=True)


if __name__ == "__main__":
    sys.exit(main())
