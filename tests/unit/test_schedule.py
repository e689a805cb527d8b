"""The schedules never keep a worker from starting."""

from datetime import timedelta
from typing import Any, cast

import pytest
from temporalio.service import RPCError, RPCStatusCode

from hibernaut.errors import InvalidSettings
from workers.schedule import ensure_collection, ensure_housekeeping
from workers.settings import Settings


class Refusing:
    """A Temporal client that may make no schedules."""

    asked = 0

    async def create_schedule(self, *_: object, **__: object) -> None:
        self.asked += 1
        raise RPCError("not allowed", RPCStatusCode.PERMISSION_DENIED, b"")


async def test_a_schedule_that_cannot_be_made_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    client = Refusing()
    await ensure_housekeeping(cast("Any", client), timedelta(minutes=10))
    await ensure_collection(cast("Any", client), timedelta(hours=24))
    assert client.asked == 2
    for name in ("hibernaut-housekeeping", "hibernaut-collection"):
        assert f"no schedule {name} could be made: not allowed" in caplog.text


async def test_zero_asks_for_none() -> None:
    client = Refusing()
    none = {"HIBERNAUT_HOUSEKEEPING_MINUTES": "0", "HIBERNAUT_COLLECTION_HOURS": "0"}
    settings = Settings.load({"HIBERNAUT_STORE": "file:///tmp/store", **none})
    await ensure_housekeeping(cast("Any", client), timedelta(minutes=settings.housekeeping_minutes))
    await ensure_collection(cast("Any", client), timedelta(hours=settings.collection_hours))
    assert client.asked == 0


def test_minutes_that_cannot_be_are_named() -> None:
    with pytest.raises(InvalidSettings, match="HIBERNAUT_HOUSEKEEPING_MINUTES"):
        Settings.load({"HIBERNAUT_STORE": "file:///tmp/store", "HIBERNAUT_HOUSEKEEPING_MINUTES": "-1"})
