"""Histories that are sealed replay as they do unsealed: workflow code never sees the seal."""

import json
from pathlib import Path

import pytest
from google.protobuf.message import Message
from temporalio.api.failure.v1 import Failure
from temporalio.client import WorkflowHistory
from temporalio.worker import Replayer

from hibernaut._keyring import NamedKey
from hibernaut.codec import PayloadKeys, data_converter
from tests.replay import releases
from tests.support.payloads import payloads
from workers.registry import WORKFLOWS, workflow_runner

NAMESPACE = "acme"
OLD, NEW = NamedKey("old", bytes(range(32))), NamedKey("new", bytes(range(32, 64)))
KEYS = PayloadKeys([NEW, OLD])
HISTORIES = [path for path in releases.recorded() if path.parent.name == releases.CURRENT.name]


def _failures(message: Message) -> list[Failure]:
    found = [message] if isinstance(message, Failure) else []
    for field, value in message.ListFields():
        if field.message_type is not None and not field.message_type.GetOptions().map_entry:
            for one in [value] if isinstance(value, Message) else value:
                found += _failures(one)
    return found


def _seal(history: WorkflowHistory) -> int:
    """Seal all of it with one key or the other, in turn; return how much there was."""
    converter = data_converter(KEYS, NAMESPACE).payload_converter
    for event in history.events:
        for failure in _failures(event):
            said = {"message": failure.message, "stack_trace": failure.stack_trace}
            failure.encoded_attributes.CopyFrom(converter.to_payloads([said])[0])
            failure.message, failure.stack_trace = "Encoded failure", ""
    found = [payload for event in history.events for payload in payloads(event)]
    for place, payload in enumerate(found):
        payload.CopyFrom(PayloadKeys([(OLD, NEW)[place % 2]]).seal(payload, NAMESPACE))
    return len(found)


@pytest.mark.parametrize("path", HISTORIES[::4], ids=lambda path: path.stem)
async def test_a_sealed_history_replays(path: Path) -> None:
    text = path.read_text()
    began = json.loads(text)["events"][0]["workflowExecutionStartedEventAttributes"]
    history = WorkflowHistory.from_json(began["workflowId"], text)
    assert _seal(history) > 2
    replayer = Replayer(
        workflows=list(WORKFLOWS),
        namespace=NAMESPACE,
        data_converter=data_converter(KEYS, NAMESPACE),
        workflow_runner=workflow_runner(),
    )
    await replayer.replay_workflow(history)
