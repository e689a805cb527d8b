"""A second real Docker daemon beside the machine's, to be stopped and killed by tests. Needs root."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, cast

import docker
from docker.errors import ImageNotFound

from tests.support import dockerd_keeper

START_S = 60.0
"""Seconds a daemon may take to answer."""
STOP_S = 60.0
"""Seconds a daemon may take to end its containers and itself."""
_SOCKET_PATH_BYTES = 107
"""The kernel's limit for the path of a unix socket."""
_LONGEST_SOCKET = "/exec/libnetwork/0123456789ab.sock"


@dataclass(frozen=True, slots=True)
class RuntimeConfig:
    """An OCI runtime the daemon offers beside runc."""

    path: str
    arguments: tuple[str, ...] = ()


class SecondDockerd:
    """A Docker daemon with everything of its own: data, sockets, network namespace and containerd.

    It has no bridge: containers run with `network none`. It ends with the process that started it, however that ends,
    and takes along its containers, mounts and data; logs stay in `home`.
    """

    def __init__(self, home: Path, *, runtimes: Mapping[str, RuntimeConfig] | None = None) -> None:
        """Prepare.

        Args:
            home: A folder of its own, made when missing; its path must be short enough for sockets in it.
            runtimes: Runtimes by name.
        """
        self.home = home.absolute()
        self._runtimes = dict(runtimes or {})
        # Asked for before a test points DOCKER_HOST elsewhere.
        self._main = dict(os.environ)
        self._containerd: asyncio.subprocess.Process | None = None
        self._dockerd: asyncio.subprocess.Process | None = None
        self._keeper: subprocess.Popen[bytes] | None = None
        if len(f"{self.home}{_LONGEST_SOCKET}".encode()) > _SOCKET_PATH_BYTES:
            raise ValueError(f"{self.home} is too long a path for the sockets in it; take a shorter one")

    @property
    def host(self) -> str:
        """What DOCKER_HOST is to be for this daemon."""
        return f"unix://{self.home}/docker.sock"

    @property
    def pid(self) -> int | None:
        """The daemon's process; None while it does not run."""
        running = self._dockerd is not None and self._dockerd.returncode is None
        return self._dockerd.pid if running and self._dockerd is not None else None

    async def __aenter__(self) -> Self:
        """Start it and wait until it answers."""
        self._check()
        self.home.mkdir(parents=True, exist_ok=True)
        # What an earlier one left in this folder.
        await asyncio.to_thread(dockerd_keeper.clean, self.home)
        self._write_settings()
        keeper = [sys.executable, "-I", dockerd_keeper.__file__, str(self.home)]
        self._keeper = await asyncio.to_thread(
            subprocess.Popen, keeper, stdin=subprocess.PIPE, start_new_session=True, cwd="/"
        )
        try:
            await self.start()
        except BaseException:
            await self._close()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        """End it and remove all it made."""
        await self._close()

    async def start(self) -> None:
        """Start it, again on the same data after `stop` or `kill`, and wait until it answers.

        Raises:
            RuntimeError: It ended or gave no answer; with the end of its log.
        """
        if self.pid is not None:
            raise RuntimeError(f"the Docker daemon of {self.home} runs already")
        if self._containerd is None or self._containerd.returncode is not None:
            self._containerd = await self._spawn("containerd", "--config", f"{self.home}/containerd.toml")
        for left in ("docker.sock", "docker.pid"):
            (self.home / left).unlink(missing_ok=True)
        self._dockerd = await self._spawn(
            "dockerd",
            f"--config-file={self.home}/daemon.json",
            f"--host={self.host}",
            f"--data-root={self.home}/data",
            f"--exec-root={self.home}/exec",
            f"--pidfile={self.home}/docker.pid",
            f"--containerd={self.home}/containerd/containerd.sock",
            "--bridge=none",
            "--iptables=false",
            "--ip-forward=false",
            "--ip-masq=false",
        )
        try:
            async with asyncio.timeout(START_S):
                while not await self.answers():
                    if self._dockerd.returncode is not None:
                        raise RuntimeError(
                            f"the second dockerd ended with exit code {self._dockerd.returncode}:\n{self.log()}"
                        )
                    await asyncio.sleep(0.05)
        except TimeoutError:
            raise RuntimeError(f"the second dockerd does not answer within {START_S:.0f} s:\n{self.log()}") from None

    async def stop(self) -> None:
        """End it as `systemctl stop` would: its containers are stopped first."""
        await self._end(signal.SIGTERM)

    async def kill(self) -> None:
        """Kill the daemon alone; its containers run on, unwatched."""
        await self._end(signal.SIGKILL)

    async def answers(self) -> bool:
        """Whether it answers a request."""
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(5):
                reader, writer = await asyncio.open_unix_connection(self.host.removeprefix("unix://"))
                try:
                    writer.write(b"GET /_ping HTTP/1.0\r\nHost: docker\r\n\r\n")
                    return b" 200 " in await reader.readline()
                finally:
                    writer.close()
        return False

    async def load(self, image: str) -> str:
        """Copy an image of the machine's own daemon to this one, under the same id and name; its id."""
        return await asyncio.to_thread(self._load, image)

    def client(self) -> docker.DockerClient:
        """A client of this daemon. It asks the daemon for its version: use it in threads, and close it."""
        return docker.DockerClient(base_url=self.host, version="auto")

    def log(self, lines: int = 20) -> str:
        """The last lines of what the daemon and its containerd said."""
        texts: list[str] = []
        for name in ("containerd", "dockerd"):
            path = self.home / f"{name}.log"
            text = path.read_text(errors="replace") if path.exists() else ""
            texts += [f"--- {path}", *text.splitlines()[-lines:]]
        return "\n".join(texts)

    def _load(self, image: str) -> str:
        with (
            contextlib.closing(docker.DockerClient.from_env(environment=self._main)) as main,
            contextlib.closing(self.client()) as mine,
        ):
            wanted = str(main.images.get(image).id)
            with contextlib.suppress(ImageNotFound):
                if mine.images.get(image).id == wanted:
                    return wanted
            api = cast("Any", mine.api)
            for _ in api.load_image(cast("Any", main.api).get_image(image)):
                pass
            loaded = str(mine.images.get(image).id)
        if loaded != wanted:
            raise RuntimeError(f"{image} has id {wanted}, and {loaded} once it is copied")
        return loaded

    def _check(self) -> None:
        if os.geteuid() != 0:
            raise RuntimeError("a second dockerd can be started by root alone")
        missing = [name for name in ("dockerd", "containerd", "unshare") if _program(name) is None]
        if missing:
            raise RuntimeError(f"a second dockerd needs {', '.join(missing)} on this machine; `make setup` installs it")

    def _write_settings(self) -> None:
        runtimes = {
            name: {"path": runtime.path, "runtimeArgs": list(runtime.arguments)}
            for name, runtime in self._runtimes.items()
        }
        settings = {"runtimes": runtimes, "log-level": "warn", "userland-proxy": False}
        (self.home / "daemon.json").write_text(json.dumps(settings, indent=2))
        (self.home / "containerd.toml").write_text(
            "version = 2\n"
            f'root = "{self.home}/containerd/root"\n'
            f'state = "{self.home}/containerd/state"\n'
            'disabled_plugins = ["io.containerd.grpc.v1.cri"]\n'
            "[grpc]\n"
            f'address = "{self.home}/containerd/containerd.sock"\n'
            "[debug]\n"
            'level = "warn"\n'
        )

    async def _spawn(self, name: str, *arguments: str) -> asyncio.subprocess.Process:
        # Without a network namespace of its own, a daemon without a bridge removes docker0 from the machine's.
        argv = ["unshare", "--net", "--", str(_program(name)), *arguments]
        with (self.home / f"{name}.log").open("ab") as log:
            return await asyncio.create_subprocess_exec(
                *argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, cwd="/"
            )

    async def _end(self, number: signal.Signals) -> None:
        if self._dockerd is None or self.pid is None:
            raise RuntimeError(f"the Docker daemon of {self.home} does not run")
        self._dockerd.send_signal(number)
        try:
            async with asyncio.timeout(STOP_S):
                await self._dockerd.wait()
        except TimeoutError:
            raise RuntimeError(f"the second dockerd does not end within {STOP_S:.0f} s:\n{self.log()}") from None

    async def _close(self) -> None:
        """Let the keeper do its work, as it would after our death."""
        keeper, self._keeper = self._keeper, None
        if keeper is None:
            return
        await asyncio.to_thread(keeper.communicate)
        for process in (self._dockerd, self._containerd):
            if process is not None:
                await process.wait()


def _program(name: str) -> str | None:
    # A user's PATH need not hold the folders of the system's programs.
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/local/sbin:/usr/sbin:/sbin")
