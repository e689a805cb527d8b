"""What the worker does for the secrets of sandboxes: hands their values to the proxy, and makes them unseen."""

import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from itertools import chain
from weakref import WeakSet

from activities.adapters.secret_values import SecretValues
from activities.egress.forms import hidden
from activities.egress.replacing import Replacer, Texts
from activities.errors import SandboxRefused
from activities.ports.egress import Tenant
from activities.ports.sandbox import CommandEnd, Sink
from activities.ports.secrets import Grant, SecretSource
from hibernaut.models import SecretSpec
from hibernaut.models.secrets import placeholder


class EgressSecrets:
    """The secrets of one host's sandboxes; for threads."""

    def __init__(self, source: SecretSource | None = None) -> None:
        """Take values from this source."""
        self.source: SecretSource = source or SecretValues()
        self._given: dict[str, set[tuple[str, str]]] = {}
        """Names and values that the proxy has, or has had, for a sandbox."""
        self._live: dict[str, WeakSet[Redaction]] = {}
        self._lock = threading.Lock()

    def grants(self, tenant: Tenant, secrets: Mapping[str, SecretSpec]) -> tuple[Grant, ...]:
        """What the proxy needs for a sandbox.

        Raises:
            SandboxRefused: A value is not to be had.
            SandboxUnavailable: Values cannot be read.
        """
        values = self.source.values(secrets, tenant.agent_id)
        self.given(tenant.sandbox_id, values.items())
        uid = tenant.agent_uid
        return tuple(Grant(name, placeholder(uid, name), values[name], spec) for name, spec in secrets.items())

    def knows(self, sandbox_id: str) -> bool:
        """Whether it is known what the proxy was given for a sandbox: by this worker, and not by one before it."""
        return sandbox_id in self._given

    def given(self, sandbox_id: str, values: Iterable[tuple[str, str]]) -> None:
        """The proxy has these names and values for a sandbox."""
        with self._lock:
            self._given[sandbox_id] = self._given.get(sandbox_id, set()) | set(values)
            # A command that runs may be told of them too.
            for one in self._live.get(sandbox_id, ()):
                one.add(self._given[sandbox_id])

    def forget(self, sandbox_id: str) -> None:
        """A sandbox is gone."""
        with self._lock:
            self._given.pop(sandbox_id, None)
            self._live.pop(sandbox_id, None)

    def all(self, sandbox_id: str) -> "Redaction":
        """Makes every value unseen, for a sandbox of which it cannot be told which it has."""
        return Redaction(chain(self._given.get(sandbox_id, ()), self.source.known().items()))

    def redaction(self, sandbox_id: str, names: Mapping[str, SecretSpec]) -> "Redaction":
        """Makes the values of a sandbox unseen: those the proxy was given, and those of now.

        Raises:
            SandboxUnavailable: Values cannot be read.
        """
        try:
            now = self.source.values(names)
        except SandboxRefused:
            # Whoever took a value away has not made it public.
            now = {name: value for name, value in self.source.known().items() if name in names}
        with self._lock:
            made = Redaction(chain(self._given.get(sandbox_id, ()), now.items()))
            self._live.setdefault(sandbox_id, WeakSet()).add(made)
        return made


class Known:
    """Every value that a source has had: one that was changed, or cannot be read just now, is still no one's to see."""

    def __init__(self, source: SecretSource) -> None:
        """Know what it has."""
        self._source = source
        self._names: dict[str, str] = {}
        self._redaction = Redaction(())
        self.redaction()

    def redaction(self) -> "Redaction":
        """Makes all of them unseen."""
        now = {value: name for name, value in self._source.known().items()}
        if now.keys() - self._names.keys():
            self._names |= now
            self._redaction = Redaction((name, value) for value, name in self._names.items())
        return self._redaction


def unseen(source: SecretSource) -> Callable[[str], str]:
    """Makes every value that this source knows, or has had, unseen in a text."""
    known = Known(source)
    return lambda text: known.redaction().text(text)


class Redaction:
    """Puts `[secret NAME]` where a value stands, in whatever form."""

    def __init__(self, values: Iterable[tuple[str, str]]) -> None:
        """Of these names and values."""
        self._values = {value: f"[secret {name}]" for name, value in values}
        self.texts: Texts = hidden(self._values)

    def add(self, values: Iterable[tuple[str, str]]) -> None:
        """Make these unseen too, in what comes from now on."""
        more = {value: f"[secret {name}]" for name, value in values}
        if more.keys() - self._values.keys():
            self._values |= more
            self.texts = hidden(self._values)

    def text(self, text: str) -> str:
        """A text without values."""
        # Half of a pair of surrogates, as JSON may have it, is no UTF-8.
        return self.texts.whole(text.encode("utf-8", "surrogatepass")).decode("utf-8", "surrogatepass")

    def error(self, error: BaseException) -> None:
        """The texts of an error without values, in place."""
        error.args = tuple(self.text(one) if isinstance(one, str) else one for one in error.args)

    def output(self, sink: Sink) -> "Output":
        """A sink before another one."""
        return Output(self, sink)


class Output:
    """The output of one command on its way to what is kept of it."""

    def __init__(self, redaction: Redaction, sink: Sink) -> None:
        self._redaction = redaction
        self._sink = sink
        self._streams: dict[str, Replacer] = {}
        self._longer: dict[str, int] = {}

    async def feed(self, stream: str, data: bytes, *, last: bool = False) -> None:
        """Take the next bytes of a stream."""
        replacer = self._streams.setdefault(stream, Replacer(self._redaction.texts))
        replacer.texts = self._redaction.texts
        said = replacer.feed(data, last=last)
        self._longer[stream] = self._longer.get(stream, 0) + len(said) - len(data)
        if said and (slow := self._sink(stream, said)) is not None:
            await slow

    async def ended(self, end: CommandEnd) -> CommandEnd:
        """The command's end, told of the streams as they were handed on."""
        for stream in list(self._streams):
            await self.feed(stream, b"", last=True)
        return replace(
            end,
            stdout_bytes=end.stdout_bytes + self._longer.get("stdout", 0),
            stderr_bytes=end.stderr_bytes + self._longer.get("stderr", 0),
            background=tuple(map(self._redaction.text, end.background)),
            detail=self._redaction.text(end.detail),
        )
