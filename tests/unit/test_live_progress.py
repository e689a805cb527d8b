"""What a client reads of activities under way, from what a Temporal server says of them."""

from types import SimpleNamespace
from typing import Any, cast

import pytest
from temporalio.api.common.v1 import ActivityType, Payloads
from temporalio.api.enums.v1 import PendingActivityState
from temporalio.api.workflow.v1 import PendingActivityInfo
from temporalio.contrib.pydantic import pydantic_data_converter

from hibernaut._live import progress_of
from hibernaut.contracts import LiveProgress

STARTED = PendingActivityState.PENDING_ACTIVITY_STATE_STARTED
SCHEDULED = PendingActivityState.PENDING_ACTIVITY_STATE_SCHEDULED
TOLD = LiveProgress(what="restore", text="fetched 1 of 3 MiB")


async def said(
    name: str, detail: object, *, state: PendingActivityState.ValueType = STARTED, started: int = 10, heard: int = 10
) -> PendingActivityInfo:
    payloads = await pydantic_data_converter.encode([detail] if detail is not None else [])
    pending = PendingActivityInfo(
        activity_type=ActivityType(name=name), state=state, heartbeat_details=Payloads(payloads=payloads)
    )
    pending.last_started_time.FromSeconds(started)
    pending.last_heartbeat_time.FromSeconds(heard)
    return pending


async def read(*pending: object) -> LiveProgress | None:
    description = SimpleNamespace(raw_description=SimpleNamespace(pending_activities=pending))
    return await progress_of(cast("Any", description), pydantic_data_converter)


async def test_a_restore_is_told_before_a_snapshot() -> None:
    snapshot = LiveProgress(what="snapshot", text="storing")
    assert await read() is None
    assert await read(await said("shell.exec", TOLD)) is None
    assert await read(await said("snapshot.take", snapshot)) == snapshot
    assert await read(await said("snapshot.take", snapshot), await said("snapshot.restore", TOLD)) == TOLD


@pytest.mark.parametrize("detail", [None, "the text alone, as an older worker has it", {"what": "other", "text": ""}])
async def test_what_is_told_in_other_words_is_not_shown(detail: object) -> None:
    assert await read(await said("snapshot.restore", detail)) is None


async def test_what_an_attempt_that_failed_had_told_is_not_shown() -> None:
    assert await read(await said("snapshot.restore", TOLD, state=SCHEDULED)) is None
    assert await read(await said("snapshot.restore", TOLD, started=20, heard=19)) is None
