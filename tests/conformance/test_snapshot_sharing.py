"""Sharing, pruning and collection over a real S3 server: its ETags, conditions and listings are what they rest on."""

from __future__ import annotations

import asyncio
import secrets
from typing import TYPE_CHECKING, Any, cast

import pytest

from activities.adapters.stores import open_store
from activities.ports.upkeep import Retention
from activities.snapshots.layout import manifest_key
from activities.snapshots.sharing import Bounds
from activities.snapshots.upkeep import StoreUpkeep
from tests.support.fleet import DAY, Fleet

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.support.seaweed import S3Server


@pytest.fixture
async def fleet(s3_server: S3Server, tmp_path: Path) -> AsyncIterator[Fleet]:
    bucket = f"hibernaut-{secrets.token_hex(6)}"
    s3_server.make_bucket(bucket)
    store = open_store(f"s3://{bucket}/prefix", s3=s3_server.settings)
    made = Fleet(tmp_path, Bounds(borrow=0, offer=0))
    made.store = cast("Any", store)
    made.upkeep = StoreUpkeep(store, timing=made.timing, cache=tmp_path / "cache")
    yield made
    await store.close()


async def test_a_life_of_sharing(fleet: Fleet) -> None:
    source = await fleet.grown(4)
    borrower = await fleet.agent("b").claim()
    borrower.write(b"same", b"3")
    packs = len(await fleet.keys("/packs/"))
    borrowed = await borrower.take()
    assert len(await fleet.keys("/packs/")) == packs
    fork = await fleet.agent("c").engine.fork(manifest_key("a", 2), agent_uid="c", generation=1)
    upkeep = fleet.upkeep
    await upkeep.name_snapshot("a", 1, "first")
    assert await upkeep.agents() == ("a", "b", "c")
    assert (await upkeep.prune("a", Retention())).removed == (2,)
    await upkeep.unname("a", "first")
    assert (await upkeep.prune("a", Retention())).removed == (1,)
    assert all([(await upkeep.verify(uid)).sound for uid in await upkeep.agents()])
    await source.engine.delete_agent("a")
    for _ in range(3):
        fleet.ahead += 3 * DAY
        await asyncio.gather(upkeep.collect(), StoreUpkeep(fleet.store, timing=fleet.timing).collect())
    assert await borrower.read(borrowed.ref, "same") == b"3"
    assert await borrower.read(fork.ref, "file") == b"1"
    assert len(await fleet.keys("/packs/")) == 2
    for uid in ("b", "c"):
        await borrower.engine.delete_agent(uid)
    for _ in range(4):
        fleet.ahead += 3 * DAY
        await upkeep.collect()
    assert await fleet.keys("") == ["collection/condemned.json"]
