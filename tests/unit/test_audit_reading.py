"""Verifying a chain that is written while it is read, by a reader that has neither a store nor Temporal of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest

from hibernaut import _audit
from hibernaut._audit import AuditLog
from hibernaut._audit_chain import Note, host_chain, part_name, write
from hibernaut._gateway import GatewayClient, Params
from hibernaut._temporal import Workflows
from hibernaut.contracts.audit import AuditPart
from hibernaut.models.audit import AuditHead

HOST = "busy"


class Busy:
    """A host that writes a part each time that somebody reads, and anchors it before the next question."""

    def __init__(self, parts: int = 0) -> None:
        self.head = self.anchored = AuditHead()
        self.parts: list[AuditPart] = []
        self.writes = True
        self.sent = 0
        for _ in range(parts):
            self.write()
        self.anchored = self.head

    def write(self) -> None:
        note = Note(datetime(2026, 1, 31, tzinfo=UTC), "egress.decided", {"host": "example.org"}, {})
        text, head = write(host_chain(HOST), self.head, [note])
        self.parts.append(AuditPart(name=part_name(self.head.seq + 1, head), text=text))
        self.head = head

    async def query(self, agent_id: str, name: str, args: list[Any], result: type[AuditHead]) -> AuditHead:
        del agent_id, name, args, result
        if self.writes:
            self.anchored = self.head
        return self.anchored

    async def lines(self, path: str, params: Params | None = None) -> AsyncIterator[str]:
        assert path == f"/v1/audit/hosts/{HOST}"
        if self.writes:
            self.write()
        for part in list(self.parts):
            if part.name > str((params or {}).get("after", "")):
                self.sent += 1
                yield part.model_dump_json()

    @property
    def log(self) -> AuditLog:
        return AuditLog(_Asked(self), _Read(self))


class _Asked(Workflows):
    def __init__(self, busy: Busy) -> None:
        self.query = busy.query  # pyright: ignore[reportAttributeAccessIssue]  # of heads alone


class _Read(GatewayClient):
    def __init__(self, busy: Busy) -> None:
        super().__init__(None, None)
        self.lines = busy.lines


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:  # pyright: ignore[reportUnusedFunction]  # a fixture
    monkeypatch.setattr(_audit, "FIRST_WAIT", 0.001)


async def test_a_chain_that_grows_whenever_it_is_read_is_sound() -> None:
    busy = Busy(parts=200)
    report = await busy.log.verify(host=HOST)
    assert (report.sound, report.anchored) == (True, True), report.problem
    assert report.lines >= 201, "all that there was when the reading began"
    assert busy.sent < 210, "what was read is not read again"


async def test_what_is_behind_the_head_of_a_host_that_rests_is_foreign() -> None:
    busy = Busy(parts=3)
    busy.write()
    busy.writes = False
    problem = (await busy.log.verify(host=HOST)).problem
    assert problem is not None
    assert (problem.trouble, problem.seq) == ("foreign", 4)


async def test_a_line_that_another_added_to_a_chain_that_grows_is_found() -> None:
    busy = Busy(parts=3)
    text, head = write(host_chain(HOST), busy.head, [Note(datetime(2026, 1, 31, tzinfo=UTC), "forged", {}, {})])
    busy.parts.append(AuditPart(name=part_name(4, head), text=text))
    problem = (await busy.log.verify(host=HOST)).problem
    assert problem is not None
    assert problem.seq == 4


async def test_a_million_lines_would_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    busy = Busy(parts=20)
    busy.writes = False

    def forbidden(*_: object, **__: object) -> None:
        raise AssertionError("all lines in memory")

    monkeypatch.setattr(_audit, "verify", forbidden)
    assert (await busy.log.verify(host=HOST)).sound
    assert len([line async for line in busy.log.lines(host=HOST)]) == 20
