"""What a scripted model does when it is asked: replies, and the ways in which a provider fails.

A *reply* (`say`, `shell`, `calls`, `refuse`, `malformed`, `odd_action`) is chosen by how many replies the conversation
already holds: asked again, the server gives the same one again. A *fault* (`http_error`, `hang`, `cut_stream`,
`garbage`) leaves no trace in the conversation, so each is given once per conversation, before the reply behind it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from examples.scripted_model.conversation import Conversation


@dataclass(frozen=True, slots=True)
class CallSpec:
    """One tool call: shell commands, or raw arguments when `arguments` or `action` is given."""

    commands: tuple[str, ...] = ()
    timeout_ms: int | None = None
    max_output_length: int | None = None
    arguments: str | None = None
    """Arguments of a function call, as written: they may be malformed."""
    name: str = "shell"
    """The function's name, when the call is a function call."""
    action: Any = None
    """The action of a native shell call, as given: it may be malformed."""


@dataclass(frozen=True, slots=True)
class Reply:
    """A reply: text or refusal, then tool calls."""

    text: str = ""
    refusal: str | None = None
    calls: tuple[CallSpec, ...] = ()
    delay: float = 0.0
    """Seconds between two pieces of streamed text."""
    incomplete: str | None = None
    """Why the reply stops short (`max_output_tokens` or `content_filter`)."""
    reasoning: bool = False
    """Whether a reasoning item goes before it (Responses only)."""
    reasoning_sealed: bool = False
    """Whether that item has encrypted content."""
    cached: int = 0
    """Input tokens that are reported as cached."""
    metered: bool = True
    """Whether the usage is told at all: some servers leave it out."""


@dataclass(frozen=True, slots=True)
class HttpError:
    """An HTTP error instead of a reply."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    body: object = None


@dataclass(frozen=True, slots=True)
class Hang:
    """Silence, and then 504."""

    seconds: float


@dataclass(frozen=True, slots=True)
class CutStream:
    """The stream of `reply` ends after so many bytes."""

    after_bytes: int
    reply: Reply
    clean: bool
    """Whether the HTTP body ends as it should; otherwise the connection is closed in the middle."""


@dataclass(frozen=True, slots=True)
class Garbage:
    """Status 200 and a body that is not what it says."""

    body: str
    content_type: str


Fault = HttpError | Hang | CutStream | Garbage
Step = Reply | Fault
Callback = Callable[[Conversation], Step]
Script = Sequence[Step | Callback] | Callback


def say(text: str, *, reasoning: bool = False, sealed: bool = False) -> Reply:
    """Answer with a text; over Responses with a reasoning item before it, its content encrypted when `sealed`."""
    return Reply(text=text, reasoning=reasoning or sealed, reasoning_sealed=sealed)


def slow(text: str, delay: float) -> Reply:
    """Answer with a text, `delay` seconds between its pieces."""
    return Reply(text=text, delay=delay)


def shell(*commands: str, timeout_ms: int | None = None, max_output_length: int | None = None, text: str = "") -> Reply:
    """Ask for shell commands in one call."""
    return Reply(text=text, calls=(CallSpec(commands, timeout_ms, max_output_length),))


def calls(specs: Sequence[Sequence[str] | CallSpec], *, text: str = "") -> Reply:
    """Ask for several calls in one reply, each a list of commands."""
    return Reply(text=text, calls=tuple(s if isinstance(s, CallSpec) else CallSpec(tuple(s)) for s in specs))


def refuse(text: str) -> Reply:
    """Decline."""
    return Reply(refusal=text)


def stop_short(text: str, reason: str = "max_output_tokens") -> Reply:
    """Answer with a text that stops at the output limit or at the content filter (`content_filter`)."""
    return Reply(text=text, incomplete=reason)


def malformed(arguments: str, *, name: str = "shell") -> Reply:
    """Ask for a function call with these arguments, whatever they are."""
    return Reply(calls=(CallSpec(arguments=arguments, name=name),))


def odd_action(action: object) -> Reply:
    """Ask for a native shell call with this action, whatever it is (over Chat: a function call with it)."""
    return Reply(calls=(CallSpec(action=action),))


def http_error(status: int, headers: Mapping[str, str] | None = None, body: object = None) -> HttpError:
    """Fail with an HTTP status; the body defaults to an error object in the provider's format."""
    return HttpError(status, dict(headers or {}), body)


def context_overflow() -> HttpError:
    """Fail as a provider does whose context window is exceeded."""
    return HttpError(
        400,
        body={
            "error": {
                "message": "Your input exceeds the context window of this model. Please adjust your input.",
                "type": "invalid_request_error",
                "param": "input",
                "code": "context_length_exceeded",
            }
        },
    )


def hang(seconds: float) -> Hang:
    """Say nothing for so long, then answer 504."""
    return Hang(seconds)


def cut_stream(
    after_bytes: int, *, text: str = "This answer is never finished. " * 20, clean: bool = False
) -> CutStream:
    """Stream a text and stop after so many bytes."""
    return CutStream(after_bytes, Reply(text=text), clean)


def garbage(body: str, content_type: str = "text/event-stream; charset=utf-8") -> Garbage:
    """Answer 200 with this body."""
    return Garbage(body, content_type)


def respond(callback: Callback) -> Callback:
    """Let a function of the conversation decide, as a model does; for readability in a list of steps."""
    return callback
