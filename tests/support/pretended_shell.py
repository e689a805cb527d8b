"""A `shell.exec` without a computer: keeps output in the store as the real one does, paced by the test."""

import asyncio
import shlex
from dataclasses import dataclass, field
from datetime import UTC, datetime

from temporalio import activity

from activities.ports.store import ObjectStore
from activities.records import ExecRecord, ExecutedCommand
from hibernaut.contracts import ExecRequest, ExecResult, LiveOutput, StoreKeys
from hibernaut.models import CommandOutcome, OutcomeKind

EARLY, LIVE, LATE = b"early \xff\n", b"live \xc3\xa4\n", b"late\n"
"""What the command `slow` writes: kept while it runs, told by its heartbeat alone, kept at its end."""


@dataclass
class PretendedShell:
    """Knows `print TEXT [ERRORS]`, `bytes COUNT`, and `slow`, which ends when the gate opens."""

    store: ObjectStore
    gate: asyncio.Event = field(default_factory=asyncio.Event)

    async def __call__(self, request: ExecRequest) -> ExecResult:
        executed: list[ExecutedCommand] = []
        for index, command in enumerate(request.commands):
            exec_id = f"{request.exec_prefix}-i{index}"
            activity.heartbeat(LiveOutput(exec_id=exec_id, command=command).model_dump(mode="json"))
            executed.append(await self._run(request.agent_uid, exec_id, command))
        await self.record(request.agent_uid, request.exec_prefix, executed)
        outcomes = tuple(
            CommandOutcome(
                **done.model_dump(include=set(CommandOutcome.model_fields)),
                stdout_head=done.stdout[:300],
                stderr_head=done.stderr[:300],
            )
            for done in executed
        )
        return ExecResult(record_ref=StoreKeys.exec_record(request.agent_uid, request.exec_prefix), outcomes=outcomes)

    async def _run(self, uid: str, exec_id: str, command: str) -> ExecutedCommand:
        done = ExecutedCommand(exec_id=exec_id, command=command, kind=OutcomeKind.EXIT, exit_code=0, duration_ms=12)
        match shlex.split(command):
            case ["print", out]:
                return done.model_copy(update={"stdout": f"{out}\n", "stdout_bytes": len(out.encode()) + 1})
            case ["print", out, err]:
                sizes = {"stdout_bytes": len(out.encode()) + 1, "stderr_bytes": len(err.encode()) + 1}
                return done.model_copy(update={"stdout": f"{out}\n", "stderr": f"{err}\n", "exit_code": 3, **sizes})
            case ["bytes", count]:
                await self.chunks(uid, exec_id, "stdout", pattern(int(count)), size=100_000)
                return done.model_copy(update={"truncated": True, "stdout_bytes": int(count)})
            case ["slow"]:
                await self._slow(uid, exec_id)
                return done.model_copy(update={"stdout_bytes": len(EARLY + LIVE + LATE)})
            case other:
                raise AssertionError(f"a command that nobody knows: {other}")

    async def _slow(self, uid: str, exec_id: str) -> None:
        await self.chunks(uid, exec_id, "stdout", EARLY)
        text = (EARLY + LIVE).decode("utf-8", "replace")
        live = LiveOutput(exec_id=exec_id, command="slow", stdout=text, stdout_bytes=len(EARLY + LIVE))
        while not self.gate.is_set():
            activity.heartbeat(live.model_dump(mode="json"))
            await asyncio.sleep(0.05)
        await self.chunks(uid, exec_id, "stdout", LIVE + LATE, at=len(EARLY))

    async def chunks(
        self, uid: str, exec_id: str, stream: str, content: bytes, *, at: int = 0, size: int = 1_000_000
    ) -> None:
        """Keep a part of a stream that begins at byte `at`."""
        for start in range(0, len(content), size):
            await self.store.put(StoreKeys.exec_chunk(uid, exec_id, stream, at + start), content[start : start + size])

    async def record(self, uid: str, prefix: str, executed: list[ExecutedCommand]) -> None:
        """Keep the record of a tool call."""
        record = ExecRecord(
            agent_uid=uid,
            exec_prefix=prefix,
            call_id="call_1",
            commands=tuple(executed),
            max_output_length=1000,
            created_at=datetime.now(UTC),
        )
        await self.store.put(StoreKeys.exec_record(uid, prefix), record.model_dump_json().encode())


def pattern(count: int) -> bytes:
    """Bytes of every value, at every place another beginning."""
    unit = bytes(range(256)) + b"\r\n\x1b[31m"
    return (unit * (count // len(unit) + 1))[:count]
