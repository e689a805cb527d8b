"""What a worker and the egress proxy of its host say to each other: a message each way over a socket in the home."""

import json
import os
import socket
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, TypeAdapter, ValidationError

from activities.ports.egress import Tenant
from activities.ports.secrets import Grant
from hibernaut.models import Network
from hibernaut.models.network_change import NetworkReport

MAX_MESSAGE = 200_000
TIMEOUT_S = 10.0
CONTROL = "control"


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What a worker wants. An `open` comes with two descriptors: the listener, and the container's process."""

    op: Literal["hello", "authority", "open", "change", "close", "list", "blocked", "report", "given", "end"]
    tenant: Tenant | None = None
    network: Network | None = None
    number: int = 0
    """Counts changes of the network's rules."""
    started_at: str = ""
    """Docker's `State.StartedAt`: which start of the container it is about."""
    sandbox_id: str = ""
    since: float = 0.0
    """A moment of `time.monotonic`, which processes of one machine agree on."""
    mark: str = ""
    """Of a report."""
    secrets: tuple[Grant, ...] = ()
    """Of an `open`: values for the proxy's memory. Before it, an `authority` has told what the sandbox has to trust."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What the proxy says."""

    error: str = ""
    release: str = ""
    """Tells one build of the proxy, with its settings, from another."""
    doors: dict[str, str] | None = None
    """The sandboxes that are served: id, and start of the container."""
    numbers: dict[str, int] | None = None
    """Of the rules that each of them has."""
    blocked: tuple[str, ...] = ()
    report: NetworkReport | None = None
    authority: str = ""
    """A certificate, as PEM."""
    given: tuple[Grant, ...] | None = None
    """The secrets that a sandbox was opened with: for a worker that has not opened it, and is to make them unseen."""


_REQUEST = TypeAdapter(Request)
_REPLY = TypeAdapter(Reply)
M = TypeVar("M", Request, Reply)
_SECRETS = TypeAdapter(tuple[Grant, ...])


def encode(message: Request | Reply) -> bytes:
    """As bytes; ValueError when they are too many."""
    fields: dict[str, Any] = {**asdict(message)}
    for name, value in fields.items():
        if isinstance(value, BaseModel):
            fields[name] = value.model_dump(mode="json")
    if isinstance(message, Request):
        fields["secrets"] = _SECRETS.dump_python(message.secrets, mode="json")
    elif message.given is not None:
        fields["given"] = _SECRETS.dump_python(message.given, mode="json")
    data = json.dumps(fields).encode()
    if len(data) > MAX_MESSAGE:
        msg = f"a message of {len(data)} bytes is too long"
        raise ValueError(msg)
    return data


def request_of(data: bytes) -> Request:
    """From bytes; ValueError when it is none, which shows nothing of it: there may be values in it."""
    return _read(_REQUEST, data)


def reply_of(data: bytes) -> Reply:
    """From bytes; the same."""
    return _read(_REPLY, data)


def _read(kind: TypeAdapter[M], data: bytes) -> M:
    try:
        return kind.validate_json(data)
    except ValidationError as error:
        problems = error.errors(include_url=False, include_input=False, include_context=False)
        said = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in problems)
        raise ValueError(said) from None


def listening(folder: Path) -> socket.socket:
    """The proxy's end in this folder, in place of one that an earlier proxy has left."""
    made = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    (folder / CONTROL).unlink(missing_ok=True)
    with _Short(folder) as path:
        made.bind(path)
    (folder / CONTROL).chmod(0o600)
    made.listen(64)
    return made


def ask(folder: Path, request: Request, descriptors: Iterable[int] = ()) -> Reply:
    """Ask the proxy.

    Raises:
        OSError: It is not there, or does not answer in time.
        ValueError: What answers is no proxy.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as link:
        link.settimeout(TIMEOUT_S)
        with _Short(folder) as path:
            link.connect(path)
        socket.send_fds(link, [encode(request)], list(descriptors))
        data = link.recv(MAX_MESSAGE)
    if not data:
        raise ConnectionResetError
    return reply_of(data)


def received(link: socket.socket) -> tuple[bytes, Sequence[int]]:
    """A message and the descriptors that came with it, which are the caller's now."""
    data, descriptors, _, _ = socket.recv_fds(link, MAX_MESSAGE, 2)
    return data, descriptors


class _Short:
    """A path to the control socket that the kernel's limit of 107 bytes is enough for, wherever the folder lies."""

    def __init__(self, folder: Path) -> None:
        self._folder = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def __enter__(self) -> str:
        return f"/proc/self/fd/{self._folder}/{CONTROL}"

    def __exit__(self, *_: object) -> None:
        os.close(self._folder)
