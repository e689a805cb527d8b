"""Payloads in whatever Temporal answers with, for tests of what seals them."""

from collections.abc import Iterator
from typing import Any

from google.protobuf.message import Message
from temporalio.api.common.v1 import Payload, SearchAttributes
from temporalio.api.history.v1 import MarkerRecordedEventAttributes


def payloads(message: Message) -> Iterator[Payload]:
    """Every payload of ours: search attributes are for the server to read, and names of patches are the SDK's own."""
    if isinstance(message, Payload):
        yield message
        return
    if isinstance(message, SearchAttributes):
        return
    if isinstance(message, MarkerRecordedEventAttributes) and message.marker_name == "core_patch":
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
