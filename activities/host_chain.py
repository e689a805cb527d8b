"""A host's audit chain: facts of its spool and decisions of its egress proxy become lines in the store, each once.

What is about to be written is first kept on disk whole. A worker that dies at any moment writes the same bytes again
under the same name, or has not begun.
"""

import asyncio
import fcntl
import json
import logging
import os
from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar, cast

from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError

from activities.adapters.audit_spool import AuditSpool, Place, write_whole
from activities.adapters.egress_tail import EgressPlace, EgressTail
from activities.errors import ObjectExists
from activities.ports.store import ObjectStore
from hibernaut._audit_chain import Note, host_chain, part_name, write
from hibernaut._audit_verify import Part, Walk
from hibernaut.contracts import StoreKeys
from hibernaut.models.audit import AuditHead

BATCH = 500
"""Lines of one part at most."""

ModelT = TypeVar("ModelT", bound=BaseModel)

log = logging.getLogger(__name__)


class _State(BaseModel):
    model_config = ConfigDict(frozen=True)

    spool: Place = Place()
    egress: EgressPlace = EgressPlace()
    head: AuditHead = AuditHead()


class _Pending(BaseModel):
    model_config = ConfigDict(frozen=True)

    name: str
    text: str
    after: _State


class HostChain:
    """Ships what waits; used by one task at a time."""

    def __init__(self, host_id: str, store: ObjectStore, spool: AuditSpool, egress: EgressTail) -> None:
        """The chain of this host in this store."""
        self._host_id = host_id
        self._store = store
        self._spool = spool
        self._egress = egress
        self._state_file = spool.folder / "state.json"
        self._pending_file = spool.folder / "pending.json"
        self._state: _State | None = None
        self._lock = -1

    def take(self) -> bool:
        """Become the one who ships; False while another process of the host does."""
        if self._lock >= 0:
            return True
        self._spool.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(self._spool.folder / "ship.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            return False
        self._lock = descriptor
        return True

    def leave(self) -> None:
        """Let another process ship."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    async def open(self, anchor: AuditHead) -> None:
        """Find out where the chain ends: by this host's own record, or else by the store and the anchor."""
        if self._state is None:
            self._state = _read(self._state_file, _State)
        await self._finish()
        if self._state is not None and self._state.head.seq >= anchor.seq:
            return
        gone = self._state is None
        head = await self._found(anchor)
        state = (self._state or _State()).model_copy(update={"head": head})
        if not head.seq:
            self._state = state
            return
        why = "the host's own record is gone" if gone else "the host's own record is older than its chain"
        facts: dict[str, JsonValue] = {"reason": why, "anchored": anchor.seq, "found": head.seq}
        await self._write(state, [_note("chain.resumed", facts)])

    async def ship(self) -> AuditHead | None:
        """Write one part of what waits; the head afterwards, or None when nothing waits."""
        await self._finish()
        state = self._known
        spooled, spool = await asyncio.to_thread(self._spool.lines, state.spool, BATCH)
        decided, egress, lost = await asyncio.to_thread(self._egress.lines, state.egress, BATCH - len(spooled))
        notes = [_spooled(line) for line in spooled]
        if lost:
            notes.append(_note("egress.lost", {"reason": "the proxy's log was rotated away before it was read"}))
        notes += [_decided(line) for line in decided]
        after = state.model_copy(update={"spool": spool, "egress": egress})
        if not notes:
            if after != state:
                self._keep(after)
            return None
        await self._write(after, notes)
        return self._known.head

    @property
    def head(self) -> AuditHead:
        """The head of what this host has written."""
        return self._known.head

    @property
    def _known(self) -> _State:
        if self._state is None:
            raise RuntimeError("the chain was not opened")
        return self._state

    async def _found(self, anchor: AuditHead) -> AuditHead:
        """The end of the chain in the store, which may be behind what the anchor knows: then that is the end."""
        prefix, walk = StoreKeys.host_audit(self._host_id), Walk(host_chain(self._host_id))
        async for info in self._store.list(prefix):
            text = (await self._store.get(info.key)).decode("utf-8", "replace")
            if not walk.take(Part(info.key.removeprefix(prefix), text)):
                break
        return walk.head if walk.head.seq >= anchor.seq else anchor

    async def _write(self, after: _State, notes: Iterable[Note]) -> None:
        text, head = write(host_chain(self._host_id), after.head, list(notes))
        name = part_name(after.head.seq + 1, head)
        pending = _Pending(name=name, text=text, after=after.model_copy(update={"head": head}))
        write_whole(self._pending_file, pending.model_dump_json().encode())
        await self._finish()

    async def _finish(self) -> None:
        """Write the part that is kept, if there is one: now, or again.

        Its files are written by this task and no thread: one that was cancelled could be overtaken by its own thread.
        """
        pending = _read(self._pending_file, _Pending)
        if pending is None:
            return
        key, data = StoreKeys.host_audit(self._host_id) + pending.name, pending.text.encode("ascii")
        try:
            await self._store.put(key, data, if_none_match=True)
        except ObjectExists:
            if await self._store.get(key) != data:
                log.warning("the audit part %s is not what was written: verify finds it", key)
        self._keep(pending.after)
        self._pending_file.unlink(missing_ok=True)

    def _keep(self, state: _State) -> None:
        write_whole(self._state_file, state.model_dump_json().encode())
        self._state = state


def _read(path: Path, kind: type[ModelT]) -> ModelT | None:
    with suppress(FileNotFoundError):
        try:
            return kind.model_validate_json(path.read_bytes())
        except ValidationError:
            log.warning("%s cannot be read: the end of the audit chain is looked for in the store", path)
    return None


def _note(kind: str, facts: dict[str, JsonValue], at: datetime | None = None) -> Note:
    return Note(at or datetime.now(UTC), kind, facts, {})


def _spooled(line: bytes) -> Note:
    body = _object(line)
    facts, kind = body.get("facts"), body.get("kind")
    if not isinstance(facts, dict) or not isinstance(kind, str):
        return _note("spool.damaged", {"bytes": len(line)})
    return _note(kind, cast("dict[str, JsonValue]", facts), _time(body))


def _decided(line: bytes) -> Note:
    body = _object(line)
    if body.get("kind") not in ("decided", "ended"):
        return _note("egress.damaged", {"bytes": len(line)})
    return _note(f"egress.{body['kind']}", {k: v for k, v in body.items() if k not in ("at", "kind")}, _time(body))


def _object(line: bytes) -> dict[str, Any]:
    try:
        body = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return cast("dict[str, Any]", body) if isinstance(body, dict) else {}


def _time(body: dict[str, Any]) -> datetime | None:
    try:
        at = datetime.fromisoformat(str(body.get("at")))
        return at.astimezone(UTC) if at.tzinfo is not None else at.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        return None
