"""How far a snapshot or a restore has come, shown while somebody watches an agent."""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager

from rich.text import Text

from hibernaut.agent import AgentHandle
from hibernaut.cli.console import clean, session
from hibernaut.contracts import LiveProgress
from hibernaut.errors import HibernautError

LOOK_EVERY = 1.0
"""Seconds between two looks; heartbeats come once a second."""
TELL_EVERY = 10.0
"""Seconds between two lines where no line can be written over."""
VERBS = {"restore": "restoring", "snapshot": "taking a snapshot"}


class LiveLine:
    """Standard error's last line: written over and over on a terminal, a new line now and then elsewhere."""

    def __init__(self, *, over: bool) -> None:
        """Write over the line if `over`, which takes a terminal that nothing else writes to."""
        self._over = over
        self._shown = ""
        self._seen = 0
        self._said = ""
        self._next = 0.0

    def show(self, progress: LiveProgress | None) -> None:
        """Show how far it has come; None: nothing goes on."""
        self.say(None if progress is None else progress_text(progress))

    def say(self, text: str | None) -> None:
        """Show a text that is safe for a terminal; None: nothing goes on."""
        if text is None:
            self._seen = 0
            self.clear()
            return
        self._seen += 1
        if self._over:
            if text != self._shown:
                self._write(text)
        elif self._seen > 1 and text != self._said and time.monotonic() >= self._next:
            # What is over at the second look is not worth a line.
            session.note(text)
            self._said, self._next = text, time.monotonic() + TELL_EVERY

    def clear(self) -> None:
        """Leave the line empty, for what others have to say."""
        if self._shown:
            session.err.file.write("\r\x1b[K")
            session.err.file.flush()
            self._shown = ""

    def _write(self, text: str) -> None:
        self.clear()
        line = Text(text, style="dim")
        line.truncate(max(20, session.err.width - 1), overflow="ellipsis")
        session.err.print(line, end="")
        session.err.file.flush()
        self._shown = text


def progress_text(progress: LiveProgress) -> str:
    """How far it has come, on a line."""
    text = " ".join(clean(progress.text).split())
    return f"{VERBS[progress.what]}: {text}" if text else VERBS[progress.what]


@asynccontextmanager
async def watching(agent: AgentHandle, tell: Callable[[LiveProgress | None], None]) -> AsyncGenerator[None]:
    """Look every second while the block goes on, and tell what was seen; at its end that there is nothing."""

    async def watch() -> None:
        while True:
            await asyncio.sleep(LOOK_EVERY)
            try:
                progress = await agent.progress()
            except HibernautError:
                # Whoever follows the agent finds out what is wrong.
                continue
            tell(progress)

    task = asyncio.create_task(watch())
    try:
        yield
    finally:
        task.cancel()
        tell(None)
