"""What may have been paid for nothing: an account of begun requests that outlives the worker that began them."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Self

from pydantic import ValidationError
from temporalio import activity

from activities.errors import HibernautActivityError, ModelError, ModelRejected
from activities.heartbeat import Pulse
from activities.unanswered import ModelPerhapsPaid, ReplyUnusable, guessed, tokens_in
from hibernaut.contracts import PerhapsPaid
from hibernaut.models import Usage
from hibernaut.models.base import Open

PREVIEW = 500
"""Characters of the newest text in the heartbeat details."""
MOST = 1_000
"""Requests that are counted at most: a detail of a heartbeat is not to be trusted with more."""
UNUSABLE = 3
"""Replies that cannot be taken, one after the other, after which the model is asked no more."""
_NOTE_EVERY = 400
"""Characters of an answer after which it is told what they may cost."""


class Draft(Open):
    """How far a summary is that takes several calls; a retry goes on from there."""

    of: str
    """Digest of the text that is summarised."""
    left: int
    """Characters of it that the summary has not taken up yet."""
    piece: int
    """Characters that one call is shown."""
    calls: int
    text: str
    usage: Usage = Usage()
    estimated: Usage = Usage()
    """Of the calls of which the provider told no usage."""


class _Ledger(PerhapsPaid):
    """The third detail of a heartbeat; `known` is the sum of `refused` and of what the draft has cost."""

    refused: Usage = Usage()
    """Of replies that could not be taken."""
    unusable: int = 0
    """How many of them there were, one after the other."""
    draft: Draft | None = None

    @classmethod
    def read(cls, details: tuple[object, ...]) -> Self:
        """What the attempts before have noted; what cannot be read is nothing."""
        try:
            ledger = cls.model_validate(details[2]) if len(details) > 2 else cls()  # noqa: PLR2004  # the third
        except ValidationError:
            ledger = cls()
        count = details[1] if len(details) > 1 else 0
        return ledger.model_copy(update={"requests": min(max(count, 0), MOST) if isinstance(count, int) else 0})


@dataclass(slots=True)
class Asking:
    """Counts how often a provider was asked in vain, over all attempts of one activity, and what that may have cost.

    The account rides in the heartbeat details, after the newest text: an attempt finds there what the attempts before
    it had begun, however they ended. A request is counted before anything is read or sent, and taken back by an attempt
    that fails without having been answered; one that dies leaves it.
    """

    pulse: Pulse
    most: int | None = None
    """Requests without a reply after which the call is given up."""
    costed: Callable[[Usage], Usage] = field(default=lambda usage: usage)
    """Adds its cost to a usage."""
    _ledger: _Ledger = field(init=False)
    _newest: str = field(init=False, default="")
    _heard: int = field(init=False, default=0)
    _noted: int = field(init=False, default=0)
    _expected: tuple[int, int] | None = field(init=False, default=None)
    _perhaps: bool = field(init=False, default=False)
    _dump: dict[str, Any] = field(init=False, default_factory=dict[str, Any])

    def __post_init__(self) -> None:
        """Take up the account of the attempts before this one."""
        self._ledger = _Ledger.read(tuple(activity.info().heartbeat_details))
        self._update()

    @property
    def draft(self) -> Draft | None:
        """How far an earlier attempt came."""
        return self._ledger.draft

    def expect(self, asked: int, answered: int = 0) -> None:
        """There is no reply yet: a request is guessed to cost so many tokens of input, and of output at least.

        Raises:
            ModelPerhapsPaid: earlier attempts have asked as often as may be.
        """
        self._expected, self._newest, self._heard = (asked, answered), "", 0
        self._note()
        if self._tired:
            raise ModelPerhapsPaid(
                "The worker that asked the model ended before there was a reply, which may have been paid."
            )

    def begin(self) -> None:
        """The request is about to be sent."""
        self._perhaps = True

    def hear(self, piece: str) -> None:
        """Text arrived: the live preview."""
        self._newest = (self._newest + piece)[-PREVIEW:]
        self._heard += len(piece)
        if self._heard - self._noted >= _NOTE_EVERY:
            self._note()
        self._say(1)

    def refused(self, error: ModelError) -> None:
        """There is no reply that can be kept; a provider that had begun to answer may charge all the same."""
        self._perhaps = error.perhaps_paid or bool(self._newest)
        if isinstance(error, ReplyUnusable):
            self._note()
            self._update(unusable=self._ledger.unusable + 1)
            self.lost(self.costed(error.usage) if error.usage.tokens else self._ledger.each)

    def lost(self, usage: Usage) -> None:
        """A reply came that cost so much, and is not kept."""
        self._perhaps = False
        self._update(refused=self._ledger.refused + usage)

    def drafted(self, draft: Draft | None) -> None:
        """A call is done, and a part of the summary with it; None when what there was is of no use."""
        self._perhaps = False
        old = self._ledger.draft
        if draft is None and old is not None:
            self._update(refused=self._ledger.refused + old.usage + old.estimated)
        self._update(draft=draft, unusable=0)

    def failed(self, error: BaseException) -> BaseException:
        """The attempt ends without a reply.

        Returns:
            The error to raise: the same with what may have been paid as its detail, or one that is not retried.
        """
        if self._perhaps:
            self._note()
            self._update(requests=min(self._ledger.requests + 1, MOST))
        self._say(0)
        # What an attempt says last is what the next one finds.
        activity.heartbeat(*self.pulse.details)
        final = self._final(error)
        if isinstance(final, HibernautActivityError):
            paid = PerhapsPaid(requests=self._ledger.requests, each=self._ledger.each, known=self._known)
            final.details = (paid.model_dump(mode="json", exclude_defaults=True),)
        return final

    def estimate(self, usage: Usage, *, found: bool) -> Usage:
        """What the other requests for a reply may have cost, each as much as the one that was kept.

        `found`: an earlier attempt kept it, so that one of the earlier requests is paid and counted.
        """
        return self._ledger.refused + usage.times(self._in_vain(found=found))

    def remainder(self, *, found: bool) -> Usage:
        """The same, each as much as it was guessed to cost."""
        return self._ledger.refused + self._ledger.each.times(self._in_vain(found=found))

    def _in_vain(self, *, found: bool) -> int:
        return max(0, self._ledger.requests - 1) if found else self._ledger.requests

    def _final(self, error: BaseException) -> BaseException:
        if isinstance(error, asyncio.CancelledError):
            why = activity.cancellation_details()
            if why is not None and why.cancel_requested:
                return ModelPerhapsPaid("The model call was given up, as it was asked to be.")
        elif isinstance(error, ReplyUnusable) and self._ledger.unusable >= UNUSABLE:
            told = f"{error} It did so {self._ledger.unusable} times, and is asked no more."
            return ModelRejected(told)
        elif (
            isinstance(error, HibernautActivityError)
            and error.retryable
            and not isinstance(error, ReplyUnusable)
            and self._tired
        ):
            return ModelPerhapsPaid(f"{error} It may have been paid.")
        return error

    @property
    def _tired(self) -> bool:
        return self.most is not None and self._ledger.requests >= self.most

    @property
    def _known(self) -> Usage:
        draft = self._ledger.draft
        return self._ledger.refused + (draft.usage + draft.estimated if draft is not None else Usage())

    def _note(self) -> None:
        """Take down what the request may cost, as far as it got."""
        if self._expected is not None:
            self._noted = self._heard
            asked, answered = self._expected
            self._update(each=self.costed(guessed(asked, max(answered, tokens_in(self._heard)))))

    def _update(self, **fields: object) -> None:
        self._ledger = self._ledger.model_copy(update=fields)
        told = self._ledger.model_copy(update={"known": self._known})
        self._dump = told.model_dump(mode="json", exclude_defaults=True)
        self._say(1)

    def _say(self, under_way: int) -> None:
        self.pulse.say(_whole(self._newest) if under_way else "", self._ledger.requests + under_way, self._dump)


def _whole(text: str) -> str:
    """A text that can be sent: some providers cut a surrogate pair in two, some models write half of one."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
