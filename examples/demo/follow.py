"""Follows an agent: prints its events while something is waited for, and reads its conversation."""

import asyncio
import json
from collections.abc import Awaitable, Mapping
from typing import Any, TypeVar

import httpx2

from examples.demo.errors import DemoError
from examples.demo.screen import Screen
from hibernaut import AgentHandle
from hibernaut.models import Event
from workers.devstack.home import ConnectionFile

_INTERVAL = 0.3
T = TypeVar("T")


class Follower:
    """Knows which events were shown already."""

    def __init__(self, agent: AgentHandle, screen: Screen, connection: ConnectionFile) -> None:
        """Begin with the agent's first event."""
        self._agent = agent
        self._screen = screen
        self._connection = connection
        self.events: list[Event] = []
        """All events so far."""

    @property
    def last(self) -> int:
        """The number of the newest event that was shown; 0 before the first."""
        return self.events[-1].seq if self.events else 0

    async def during(self, work: Awaitable[T]) -> T:
        """Wait for the work, and print what the agent does meanwhile."""
        task = asyncio.ensure_future(work)
        try:
            while not task.done():
                await self.catch_up()
                await asyncio.wait({task}, timeout=_INTERVAL)
            await self.catch_up()
            return await task
        finally:
            task.cancel()

    async def catch_up(self) -> None:
        """Print what happened since the last look."""
        async for event in self._agent.events(self.last, follow=False):
            self.events.append(event)
            self._screen.event(event)

    async def conversation(self) -> list[dict[str, Any]]:
        """Every item the model has been given or has said, oldest first, as it went over the wire."""
        url = f"{self._connection.gateway_url}/v1/agents/{self._agent.id}/transcript"
        headers = {"Authorization": f"Bearer {self._connection.gateway_token}"}
        # A proxy of the environment cannot reach this machine's own loopback.
        async with httpx2.AsyncClient(trust_env=False, timeout=60) as client:
            response = await client.get(url, headers=headers)
        if not response.is_success:
            raise DemoError(f"The gateway does not give the conversation: {response.status_code} {response.text[:200]}")
        return [json.loads(line) for line in response.text.splitlines()]


def notes(items: list[dict[str, Any]], words: str) -> list[str]:
    """The developer messages among these items that hold these words."""
    texts = [_text(item) for item in items if item.get("role") == "developer"]
    return [text for text in texts if words in text]


def printed(items: list[dict[str, Any]]) -> str:
    """All that commands printed since the newest message of the user, as the model was shown it."""
    newest = max(index for index, item in enumerate(items) if item.get("role") == "user")
    parts: list[str] = []
    for item in items[newest:]:
        if item.get("type") == "shell_call_output":
            parts += [str(output["stdout"]) for output in item["output"]]
        elif item.get("type") == "function_call_output":
            parts += [str(output["stdout"]) for output in json.loads(item["output"]).get("outputs", [])]
    return "\n".join(parts)


def _text(item: Mapping[str, Any]) -> str:
    return "".join(str(part.get("text", "")) for part in item["content"])
