"""Sockets in the network namespace of a container, made by the host: nothing has to run in the container for it."""

import ctypes
import errno
import os
import socket
import threading
from dataclasses import dataclass

_CLONE_NEWNET = 0x4000_0000
BACKLOG = 128


class PortTaken(Exception):
    """Something listens there already."""


@dataclass(frozen=True, slots=True)
class Process:
    """A container's first process, held so that its number cannot come to mean another one."""

    pid: int
    fd: int
    """A pidfd: readable once the process has ended."""

    @classmethod
    def hold(cls, pid: int) -> "Process":
        """Hold the process of this number; ProcessLookupError when there is none."""
        return cls(pid, os.pidfd_open(pid))

    def close(self) -> None:
        """Let go of it."""
        os.close(self.fd)


def listen_inside(process: Process, port: int) -> socket.socket:
    """A socket that listens on 127.0.0.1 of the process's network namespace, held by this process.

    Raises:
        PortTaken: The port is in use there.
        OSError: The namespace cannot be entered (only root can), or the process has ended.
    """
    made: list[socket.socket] = []
    failed: list[OSError] = []

    def work() -> None:
        try:
            made.append(_listen(process.pid, port))
        except OSError as error:
            failed.append(error)

    # The namespace is the thread's own: it ends there.
    thread = threading.Thread(target=work, name="netns")
    thread.start()
    thread.join()
    if failed:
        if failed[0].errno == errno.EADDRINUSE:
            raise PortTaken from failed[0]
        raise failed[0]
    return made[0]


def _listen(pid: int, port: int) -> socket.socket:
    namespace = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.setns(namespace, _CLONE_NEWNET) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
    finally:
        os.close(namespace)
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        # Connections of an earlier listener may linger.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", port))
        listener.listen(BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener
