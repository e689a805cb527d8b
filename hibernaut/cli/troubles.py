"""Says why nothing happens while somebody waits for an answer."""

import asyncio

from hibernaut.agent import AgentHandle
from hibernaut.cli.console import session
from hibernaut.errors import HibernautError

LOOK_EVERY = 4.0
"""Seconds between two looks; what mends itself sooner is nobody's trouble."""


async def warn_of_troubles(agent: AgentHandle) -> None:
    """Print each activity that fails and is tried again, once per activity and reason, until cancelled."""
    told: set[tuple[str, str]] = set()
    while True:
        await asyncio.sleep(LOOK_EVERY)
        try:
            troubles = await agent.troubles()
        except HibernautError:
            continue
        for trouble in troubles:
            if (trouble.activity, trouble.reason) not in told:
                told.add((trouble.activity, trouble.reason))
                session.note(f"held up: {trouble.activity}, attempt {trouble.attempt}: {trouble.reason}")
