"""Classifies what can go wrong at a provider: worth a retry, refused for good, or too long a conversation."""

import email.utils
import re
import time
from collections.abc import Mapping, Sequence

import httpx2
import openai

from activities.errors import ContextOverflow, ModelError, ModelRejected, ModelUnavailable
from activities.unanswered import ReplyUnusable
from hibernaut.models import Usage

_REDACTED = "[redacted]"
_MAX_MESSAGE = 500
_MAX_RETRY_AFTER = 3600.0
_MIN_SECRET = 6

_RETRYABLE_STATUS = frozenset({408, 409, 425, 429})
_SERVER_ERROR = 500
_STATUS = re.compile(r"[1-9][0-9]{2}")
_GATEWAY_TIMEOUT = frozenset({504, 524})
"""A proxy waited no longer; the model behind it may go on."""
_TOO_LARGE = 413
_OVERFLOW_CODES = frozenset({"context_length_exceeded", "context_window_exceeded", "string_above_max_length"})
_OVERFLOW_TEXT = re.compile(
    r"context (length|window)|maximum context|prompt is too long|input is too long|too many (input )?tokens"
    r"|exceeds? the (model's )?(maximum|context)",
    re.IGNORECASE,
)
_NO_MONEY = frozenset({"insufficient_quota", "billing_hard_limit_reached", "billing_not_active"})
_REFUSED_CODES = re.compile(
    r"^(invalid_|unsupported_|model_not_found|unknown_|missing_|.*_policy|.*policy_violation|data_residency|authentication"
    r"|permission|bad_request|image_|empty_image|failed_to_download)"
)


class Faults:
    """Turns what the `openai` package raises, and errors told within a stream, into our own; no secret gets through."""

    def __init__(self, provider: str, secrets: Sequence[str]) -> None:
        """Prepare.

        Args:
            provider: the provider's name, for messages.
            secrets: texts that no message may hold.
        """
        self._provider = provider
        self._secrets = sorted((text for text in secrets if len(text) >= _MIN_SECRET), key=len, reverse=True)

    def scrub(self, text: str) -> str:
        """The text without secrets, shortened, and without what no failure can be recorded with."""
        for secret in self._secrets:
            text = text.replace(secret, _REDACTED)
        text = text.encode(errors="replace").decode()
        return text if len(text) <= _MAX_MESSAGE else text[:_MAX_MESSAGE] + "..."

    def unavailable(
        self, what: str, *, retry_after: float | None = None, perhaps_paid: bool = False
    ) -> ModelUnavailable:
        """An error that is worth a retry; `perhaps_paid`: the provider may have begun to answer."""
        told = f"Model provider {self._provider!r}: {self.scrub(what)}"
        return ModelUnavailable(told, retry_after=retry_after, perhaps_paid=perhaps_paid)

    def unusable(self, what: str, usage: Usage) -> ReplyUnusable:
        """A whole reply that cannot be taken, and what it has cost."""
        return ReplyUnusable(f"Model provider {self._provider!r}: {self.scrub(what)}", usage=usage)

    def rejected(self, what: str, *, perhaps_paid: bool = False) -> ModelRejected:
        """An error that is not."""
        error = ModelRejected(f"Model provider {self._provider!r}: {self.scrub(what)}")
        error.perhaps_paid = perhaps_paid
        return error

    def overflow(self, what: str) -> ContextOverflow:
        """The conversation is too long."""
        msg = f"Model provider {self._provider!r}: the conversation exceeds the model's window: {self.scrub(what)}"
        return ContextOverflow(msg)

    def of(self, error: Exception) -> ModelError:
        """Our error for one that was raised during a call."""
        match error:
            case ModelError():
                return error
            case openai.APITimeoutError():
                return self.unavailable("no answer within the time limit (timeout_s).", perhaps_paid=_sent(error))
            case openai.APIStatusError():
                return self._of_status(error)
            case openai.APIConnectionError():
                what = f"cannot be reached, or broke the connection: {error.__cause__ or error}."
                return self.unavailable(what, perhaps_paid=_sent(error))
            case openai.APIResponseValidationError():
                return self.unavailable("the answer is not what the API defines.", perhaps_paid=True)
            case openai.APIError():
                return self.told(error.code, error.message)
            case ValueError() | RecursionError() | TypeError() | AttributeError():
                return self.unavailable(f"the stream is malformed ({type(error).__name__}).", perhaps_paid=True)
            case _:
                return self.unavailable(f"{type(error).__name__}: {error}", perhaps_paid=True)

    def told(self, code: object, message: str) -> ModelError:
        """Our error for one that the provider told within a stream or a response object."""
        code = str(code or "")
        # It had begun to answer: what it had written by then may be on the bill.
        if _STATUS.fullmatch(code):
            error = self._classify(int(code), "", message, None)
            error.perhaps_paid = not isinstance(error, ContextOverflow)
            return error
        if code in _OVERFLOW_CODES or _OVERFLOW_TEXT.search(message):
            return self.overflow(message)
        if code in _NO_MONEY or _REFUSED_CODES.match(code):
            return self.rejected(f"{message} (code {code})", perhaps_paid=code not in _NO_MONEY)
        return self.unavailable(f"{message} (code {code or 'none'})", perhaps_paid=True)

    def _of_status(self, error: openai.APIStatusError) -> ModelError:
        headers = error.response.headers
        advice = headers.get("x-should-retry")
        classified = self._classify(error.status_code, error.code or "", error.message, retry_after(headers))
        if advice == "false" and isinstance(classified, ModelUnavailable):
            what = f"HTTP {error.status_code}, and says that a retry is of no use: {error.message}"
            return self.rejected(what, perhaps_paid=classified.perhaps_paid)
        return classified

    def _classify(self, status: int, code: str, message: str, wait: float | None) -> ModelError:
        what = f"HTTP {status}: {message}"
        if code in _NO_MONEY:
            return self.rejected(f"{what} Check the account's plan and billing.")
        if status >= _SERVER_ERROR or status in _RETRYABLE_STATUS:
            return self.unavailable(what, retry_after=wait, perhaps_paid=status in _GATEWAY_TIMEOUT)
        if status == _TOO_LARGE or code in _OVERFLOW_CODES or _OVERFLOW_TEXT.search(message):
            return self.overflow(what)
        return self.rejected(f"{what}{_ADVICE.get(status, '')}")


_ADVICE: Mapping[int, str] = {
    401: " Check the provider's api_key_env or api_key_file on the worker.",
    403: " The key has no access to this model or address.",
    404: " Check the agent's model and the provider's base_url.",
}


def retry_after(headers: Mapping[str, str]) -> float | None:
    """The seconds a provider asks to be left alone, from `retry-after-ms` or `retry-after`; at most an hour."""
    for name, scale in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        text = headers.get(name)
        if text is None:
            continue
        try:
            seconds = float(text) * scale
        except ValueError:
            seconds = _until(text)
        if seconds is not None and 0 <= seconds < float("inf"):
            return min(seconds, _MAX_RETRY_AFTER)
    return None


def _until(text: str) -> float | None:
    try:
        when = email.utils.parsedate_to_datetime(text)
    except ValueError:
        return None
    return max(0.0, when.timestamp() - time.time())


def _sent(error: openai.APIConnectionError) -> bool:
    """Whether there was a connection to send the request over, however it ended."""
    return not isinstance(error.__cause__, httpx2.ConnectError | httpx2.ConnectTimeout)
