"""The attempts of one model call, each of which finds the heartbeat details of the one before."""

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from temporalio.activity import ActivityCancellationDetails
from temporalio.testing import ActivityEnvironment

from activities.adapters.local_store import LocalStore
from activities.errors import HibernautActivityError, StoreUnavailable
from activities.model_call import ModelActivities
from activities.providers import load_providers
from activities.transcript import Transcript
from examples.scripted_model import Script, ScriptedModel
from hibernaut.contracts import ModelReply, ModelRequest, PerhapsPaid, UserMessage

REQUEST = ModelRequest(
    agent_uid="0123456789abcdef",
    branch=0,
    step=1,
    ordinal=0,
    transcript_ref=None,
    new_items=(UserMessage(message_id="1", text="Hello"),),
    provider="default",
    model="scripted",
)


class Attempts:
    """The attempts of one activity, each of which finds the heartbeat details of the one before."""

    def __init__(self, activities: ModelActivities) -> None:
        self._activities = activities
        self.details: Sequence[object] = ()

    async def next(self, **more: Any) -> ModelReply:  # noqa: ANN401  # fields of the request
        environment = ActivityEnvironment()
        environment.info = replace(environment.info, heartbeat_details=self.details)
        environment.on_heartbeat = self._note
        return await environment.run(self._activities.call, REQUEST.model_copy(update=more))

    async def dies(self, model: ScriptedModel, seconds: float = 0) -> None:
        """One that asks and is never heard of again, that many seconds later."""
        environment = ActivityEnvironment()
        environment.info = replace(environment.info, heartbeat_details=self.details)
        environment.on_heartbeat = self._note
        already = len(model.requests)
        asked = asyncio.create_task(environment.run(self._activities.call, REQUEST))
        while len(model.requests) == already:
            await asyncio.sleep(0.01)
        await asyncio.sleep(seconds)
        environment.on_heartbeat = lambda *_: None
        environment.cancel(ActivityCancellationDetails(worker_shutdown=True))
        with suppress(asyncio.CancelledError):
            await asked

    async def fails(self, kind: type[HibernautActivityError], **more: Any) -> PerhapsPaid:  # noqa: ANN401  # as above
        """One that ends with an error; what it says that may have been paid."""
        with pytest.raises(HibernautActivityError) as failed:
            await self.next(**more)
        assert type(failed.value) is kind, failed.value
        [paid] = failed.value.details
        return PerhapsPaid.model_validate(paid)

    def _note(self, *details: object) -> None:
        self.details = details


@dataclass
class World:
    """A model, the attempts to ask it, and the store of the replies."""

    attempts: Attempts
    model: ScriptedModel
    store: "Forgetful"
    activities: ModelActivities


class Forgetful(LocalStore):
    """A store that may be away when a reply is to be kept."""

    away = False

    async def put(self, key: str, data: bytes, *, if_none_match: bool = False) -> None:
        if self.away:
            raise StoreUnavailable("The store is away.")
        await super().put(key, data, if_none_match=if_none_match)


@asynccontextmanager
async def world(
    folder: Path, script: Script, models: Mapping[str, object] | None = None, **settings: object
) -> AsyncGenerator[World]:
    """A provider with these settings of its models, and of its own."""
    async with ScriptedModel(script) as model:
        file = folder / "providers.yaml"
        provider = {"base_url": model.base_url, "api_key_env": "KEY", "models": dict(models or {}), **settings}
        file.write_text(yaml.safe_dump({"currency": "EUR", "providers": {"default": provider}}))
        providers = load_providers({"HIBERNAUT_PROVIDERS": str(file), "KEY": model.api_key})
        store = Forgetful(folder / "store")
        try:
            activities = ModelActivities(Transcript(store), providers)
            yield World(Attempts(activities), model, store, activities)
        finally:
            await providers.close()
