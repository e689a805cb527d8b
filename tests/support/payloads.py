"""Payloads in whatever Temporal answers with, for tests of what seals them."""

from collections.abc import Iterator
from typing import Any

from google.protobuf.message import Message
from temporalio.api.common.v1 import Payload, SearchAttributes


def payloads(message: Message) -> Iterator[Payload]:
    """Every payload in a message, but those of search attributes, which the server itself has to read."""
    if isinstance(message, Payload):
        yield message
        return
    if isinstance(message, SearchAttributes):
        return
    for field, value in message.ListFields():
        if field.message_type is None:
            continue
        whole: Any = value
        if field.message_type.GetOptions().map_entry:
            whole = [one for one in value.values() if isinstance(one, Message)]
        elif isinstance(value, Message):
            whole = [value]
        for one in whole:
            yield from payloads(one)
