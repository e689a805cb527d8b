"""What tests of the development stack share."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from temporalio.client import Client
from temporalio.common import SearchAttributeKey, SearchAttributePair, TypedSearchAttributes

from workers.devstack import DevStack


def processes_of(home: Path) -> list[str]:
    """The command lines of all living processes that name this home."""
    found: list[str] = []
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            if str(home) in command:
                found.append(command)
    return found


async def until(condition: Callable[[], bool]) -> None:
    """Wait for something that must come; the test's own time limit is the only one."""
    while not condition():
        await asyncio.sleep(0.05)


async def start_raw_workflow(stack: DevStack, workflow_id: str) -> None:
    """Start a workflow that no worker knows: it stays open, which is all that is asked of it."""
    client = await Client.connect(stack.temporal_address, namespace=stack.namespace)
    state = SearchAttributePair(SearchAttributeKey.for_keyword("HibernautState"), "idle")
    steps = SearchAttributePair(SearchAttributeKey.for_int("HibernautSteps"), 3)
    await client.start_workflow(
        "Raw", id=workflow_id, task_queue="nobody", search_attributes=TypedSearchAttributes([state, steps])
    )
