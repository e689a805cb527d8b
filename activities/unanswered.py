"""Errors of model calls that may cost something, and what such a call is guessed to cost."""

import json
from collections.abc import Iterable

from activities.errors import ModelError, ModelUnavailable
from activities.ports.model import Item
from hibernaut.models import Usage

ASSUMED_CHARACTERS = 4
"""Characters of a token, where the provider does not count."""


class ModelPerhapsPaid(ModelError):
    """Requests may have been paid, and left no reply: whoever keeps the budget decides whether to ask again."""


class ReplyUnusable(ModelUnavailable):
    """The provider gave a whole reply, and charges for it; it cannot be taken. Another one may be better."""

    def __init__(self, message: str, *, usage: Usage | None = None) -> None:
        super().__init__(message, perhaps_paid=True)
        self.usage = usage or Usage()
        """As the provider told it; nothing when it did not."""


def weight(items: Iterable[Item]) -> int:
    """Characters of items as they are sent."""
    return sum(len(json.dumps(item, ensure_ascii=False)) for item in items)


def tokens_of(items: Iterable[Item]) -> int:
    """What items may count in tokens, by their length."""
    return tokens_in(weight(items))


def tokens_in(characters: int) -> int:
    """What so many characters may count in tokens."""
    return -(-characters // ASSUMED_CHARACTERS)


def guessed(asked: int, answered: int) -> Usage:
    """A usage of so many tokens of input and output."""
    return Usage(input_tokens=asked, output_tokens=answered, total_tokens=asked + answered)
