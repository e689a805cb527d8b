"""Agents' audit chains: the activity that writes an agent's events writes the lines that come of them."""

import logging
from collections.abc import Sequence

from activities.audit_digests import Digests
from activities.errors import ObjectExists
from activities.ports.store import ObjectStore
from hibernaut._audit_chain import SEQ_DIGITS, BadLine, Note, agent_chain, part_name, read, write
from hibernaut._audit_entries import Entry, entries
from hibernaut._audit_verify import GAP_KIND
from hibernaut.contracts import StoreKeys
from hibernaut.models import Event
from hibernaut.models.audit import AuditHead, AuditLine

log = logging.getLogger(__name__)


class AgentAudit:
    """Writes parts of agents' chains; each chain has one writer, its agent's workflow."""

    def __init__(self, store: ObjectStore, digests: Digests) -> None:
        """Write into this store."""
        self._store = store
        self._digests = digests

    async def append(self, agent_id: str, uid: str, events: tuple[Event, ...], head: AuditHead) -> AuditHead:
        """Write what comes of events after a head, and return the head afterwards; again on a retry is harmless.

        No part is ever written over: one that bears the same name and other bytes was damaged, which a verification
        finds. The agent goes on all the same.
        """
        notes = self._notes(agent_id, events, head)
        done = head.model_copy(update={"event": events[-1].seq})
        if not notes:
            return done
        prefix = StoreKeys.agent_audit(uid)
        text, after = write(agent_chain(uid), done, notes)
        if (kept := await self._kept(prefix, head, text)) is not None:
            # An earlier attempt, by a worker with another key: its answer was lost, its part is there.
            return after.model_copy(update={"hash": kept})
        key = prefix + part_name(head.seq + 1, after)
        try:
            await self._store.put(key, text.encode("ascii"), if_none_match=True)
        except ObjectExists:
            if await self._store.get(key) != text.encode("ascii"):
                log.warning("the audit part %s is not what was written: verify finds it", key)
        return after

    def _notes(self, agent_id: str, events: tuple[Event, ...], head: AuditHead) -> list[Note]:
        found: list[Note] = []
        if events[0].seq > head.event + 1:
            facts = {"agent_id": agent_id, "from_event": head.event + 1, "to_event": events[0].seq - 1}
            found.append(Note(events[0].at, GAP_KIND, facts, {}))
        found += [self._note(agent_id, entry) for entry in entries(events)]
        return found

    def _note(self, agent_id: str, entry: Entry) -> Note:
        # Every chain begins with the agent's own id, whatever else the first line tells.
        own = {"agent_id": agent_id} if entry.event.seq == 1 else {}
        digests = {
            name: self._digests.of(text.encode("utf-8", "surrogatepass")) for name, text in entry.content.items()
        }
        return Note(entry.event.at, entry.kind, own | entry.facts, entry.digests | digests)

    async def _kept(self, prefix: str, head: AuditHead, text: str) -> str | None:
        """The hash of the last line of a part that says the same after the same line, under another key."""
        wanted = [read(line) for line in text.splitlines()]
        async for info in self._store.list(f"{prefix}{head.seq + 1:0{SEQ_DIGITS}d}-"):
            try:
                lines = [read(line) for line in (await self._store.get(info.key)).decode("ascii").splitlines()]
            except (BadLine, UnicodeDecodeError):
                continue
            if lines and _same(lines, wanted) and info.key == prefix + part_name(head.seq + 1, _head(lines[-1])):
                return lines[-1].hash
        return None


def _head(line: AuditLine) -> AuditHead:
    return AuditHead(seq=line.seq, hash=line.hash)


def _same(some: Sequence[AuditLine], others: Sequence[AuditLine]) -> bool:
    """Whether two runs of lines after the same line tell the same, whatever key made their digests."""
    pairs = zip(some, others, strict=False)
    return (
        len(some) == len(others)
        and some[0].prev == others[0].prev
        and all(_told(one) == _told(other) and _digests_agree(one, other) for one, other in pairs)
    )


def _digests_agree(one: AuditLine, other: AuditLine) -> bool:
    """Whether they can be of the same content: those of one key must be the same."""
    return all(
        digest == (told := other.digests.get(name)) or digest.rpartition(":")[0] != (told or "").rpartition(":")[0]
        for name, digest in one.digests.items()
    )


def _told(line: AuditLine) -> object:
    return line.chain, line.seq, line.at, line.kind, line.facts, sorted(line.digests)
