"""Verifies a chain of an audit log: the first gap, edit, reorder, cut, foreign part or duplicate is named."""

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from hibernaut._audit_chain import HASH_SHOWN, PART, BadLine, read
from hibernaut.models.audit import NO_HASH, AuditHead, AuditLine, AuditProblem, AuditReport, AuditTrouble

GAP_KIND = "chain.gap"
LAST_KIND = "agent.closed"
HASH_BYTES = 32


@dataclass(frozen=True, slots=True)
class Part:
    """One object of a chain."""

    name: str
    """The key without the chain's prefix."""
    text: str


@dataclass(frozen=True, slots=True)
class _Line:
    """As much of a line as is judged: there may be a million of them."""

    chain: str
    seq: int
    kind: str
    prev: str
    hash: str
    agent_id: str
    """Of an agent's chain, if the line tells it."""
    notes: tuple[str, ...]
    """What a reader ought to know of it."""


@dataclass(frozen=True, slots=True)
class _Read:
    part: str
    place: int
    line: _Line | None
    reason: str = ""


def verify(chain: str, parts: Iterable[Part], anchor: AuditHead | None, *, over: bool = False) -> AuditReport:
    """Check all there is of a chain, the parts in the order of their names.

    Args:
        chain: What the chain is called.
        parts: All objects under its prefix.
        anchor: The head that a workflow knows; None when no workflow is left to ask.
        over: Whether the agent is gone, so that its chain must have the line that says that it was closed.
    """
    ordered = sorted(parts, key=lambda part: part.name)
    check = _Check(chain, [(part, _lines(part)) for part in ordered], anchor)
    problem = check.first_problem() or check.end(over=over)
    last = check.last
    return AuditReport(
        chain=chain,
        agent_id=check.agent_id,
        lines=last.seq if last is not None else 0,
        parts=len(ordered),
        head=AuditHead(seq=last.seq, hash=last.hash) if last is not None else AuditHead(),
        anchored=anchor is not None,
        notes=tuple(check.notes),
        problem=problem,
    )


class _Check:
    """One way through the lines."""

    def __init__(self, chain: str, parts: Sequence[tuple[Part, Sequence[_Read]]], anchor: AuditHead | None) -> None:
        self._chain = chain
        self._parts = parts
        self._anchor = anchor
        lines = [one.line for _, found in parts for one in found]
        self._whole = [line for line in lines if line is not None and line.chain == chain]
        self._seqs = {line.seq for line in self._whole}
        self._true = self._traced()
        self._seen: set[str] = set()
        self.last: _Line | None = None
        self.agent_id = ""
        self.closed = False
        self.notes: list[str] = []

    def _traced(self) -> dict[int, str]:
        """The hash of each line from which the chain leads to its head, as far as it can be traced back."""
        known = {line.hash: line for line in self._whole}
        if self._anchor is not None:
            at = known.get(self._anchor.hash)
        else:
            at = max(self._whole, key=lambda line: line.seq, default=None)
        found: dict[int, str] = {}
        while at is not None and at.seq not in found:
            found[at.seq] = at.hash
            at = known.get(at.prev)
        return found

    def first_problem(self) -> AuditProblem | None:
        """What is wrong first, in the order in which the lines are read; the end is another matter."""
        for part, lines in self._parts:
            for one in lines:
                if problem := self._line(one):
                    return problem
            if problem := _named(part, lines[0].line, lines[-1].line):
                return problem
        return None

    def _line(self, one: _Read) -> AuditProblem | None:
        expected = self.last.seq + 1 if self.last is not None else 1
        line = one.line
        if line is None:
            return _problem(AuditTrouble.EDITED, expected, one.part, f"line {one.place} of the part: {one.reason}")
        if line.chain != self._chain:
            return _problem(AuditTrouble.FOREIGN, line.seq, one.part, f"the line is of the chain {line.chain}")
        if line.hash in self._seen:
            return _problem(AuditTrouble.DUPLICATE, line.seq, one.part, f"line {line.seq} was read before")
        true = self._true.get(line.seq)
        if true is not None and true != line.hash:
            told = f"there is another line {line.seq}, from which the chain leads to its head"
            return _problem(AuditTrouble.FOREIGN, line.seq, one.part, told)
        if problem := self._order(line, expected, one.part):
            return problem
        self._accept(line)
        return None

    def _order(self, line: _Line, expected: int, part: str) -> AuditProblem | None:
        """What is wrong with a line where it is, though it is sound by itself."""
        if line.seq > expected:
            if expected in self._seqs:
                told = f"line {line.seq} comes before line {expected}"
                return _problem(AuditTrouble.REORDERED, expected, part, told)
            many = f"lines {expected} to {line.seq - 1} are" if line.seq > expected + 1 else f"line {expected} is"
            return _problem(AuditTrouble.GAP, expected, part, f"{many} missing")
        if line.seq < expected:
            return _problem(AuditTrouble.FOREIGN, line.seq, part, f"there was another line {line.seq} before")
        if line.prev != (self.last.hash if self.last is not None else NO_HASH):
            told = f"line {line.seq} does not follow the line before it: one of them was written anew"
            return _problem(AuditTrouble.EDITED, line.seq, part, told)
        return None

    def _accept(self, line: _Line) -> None:
        self.last = line
        self._seen.add(line.hash)
        self.agent_id = self.agent_id or line.agent_id
        self.closed = self.closed or line.kind == LAST_KIND
        self.notes += line.notes

    def end(self, *, over: bool) -> AuditProblem | None:
        """What is wrong with the end of a chain whose lines are sound."""
        seq = self.last.seq if self.last is not None else 0
        known = self._true.get(self._anchor.seq) if self._anchor is not None else None
        return _end(seq, known, self._anchor, missing_end=over and not self.closed)


class Walk:
    """One way through a chain, part by part, in little memory; only what is sound all the way gets to its end."""

    def __init__(self, chain: str) -> None:
        """Begin before the first line."""
        self._chain = chain
        self._hashes = bytearray()
        self._closed = False
        self._notes: list[str] = []
        self.head = AuditHead()
        """The newest line so far."""
        self.name = ""
        """Of the newest part."""
        self.parts = 0
        self.agent_id = ""

    def take(self, part: Part) -> bool:
        """Go on with the next part; False when something is wrong with it, or with its place: `verify` says what."""
        found = _lines(part)
        for one in found:
            line = one.line
            if line is None or (line.chain, line.seq, line.prev) != (self._chain, self.head.seq + 1, self.head.hash):
                return False
            self.head = AuditHead(seq=line.seq, hash=line.hash)
            self._hashes += bytes.fromhex(line.hash)
            self.agent_id = self.agent_id or line.agent_id
            self._closed = self._closed or line.kind == LAST_KIND
            self._notes += line.notes
        if part.name <= self.name or _named(part, found[0].line, found[-1].line) is not None:
            return False
        self.name = part.name
        self.parts += 1
        return True

    def report(self, anchor: AuditHead | None, *, over: bool = False, seen: int | None = None) -> AuditReport:
        """What is to be said of it at its end; see `verify`.

        Args:
            anchor: As there.
            over: As there.
            seen: How many lines there were at first: those that came later may wait for their anchor. All, when None.
        """
        known = self._hash(anchor.seq) if anchor is not None else None
        if anchor is not None and known != anchor.hash:
            known = None
        head = self.head
        if anchor is not None and known is not None and seen is not None and seen <= anchor.seq < head.seq:
            head = AuditHead(seq=anchor.seq, hash=known)
        return AuditReport(
            chain=self._chain,
            agent_id=self.agent_id,
            lines=head.seq,
            parts=self.parts,
            head=head,
            anchored=anchor is not None,
            notes=tuple(self._notes),
            problem=_end(head.seq, known, anchor, missing_end=over and not self._closed),
        )

    def _hash(self, seq: int) -> str:
        return self._hashes[HASH_BYTES * (seq - 1) : HASH_BYTES * seq].hex() if seq else NO_HASH


def _end(seq: int, known: str | None, anchor: AuditHead | None, *, missing_end: bool) -> AuditProblem | None:
    """What is wrong with the end of a chain of so many lines; `known` is the anchor's line, if it is there."""
    if anchor is None:
        if missing_end:
            told = "the agent is gone, and the chain has no line that says that it was closed"
            return _problem(AuditTrouble.TRUNCATED, seq + 1, "", told)
        return None
    if seq < anchor.seq:
        told = f"the workflow knows {anchor.seq} lines: the last {anchor.seq - seq} are missing"
        return _problem(AuditTrouble.TRUNCATED, seq + 1, "", told)
    if anchor.seq and known is None:
        told = f"line {anchor.seq} is not the one that the workflow knows: the chain was written anew"
        return _problem(AuditTrouble.EDITED, anchor.seq, "", told)
    if seq > anchor.seq:
        told = f"the workflow knows {anchor.seq} lines, and nothing of the {seq - anchor.seq} after them"
        return _problem(AuditTrouble.FOREIGN, anchor.seq + 1, "", told)
    return None


def _judged(line: AuditLine) -> _Line:
    name = line.facts.get("agent_id")
    notes: tuple[str, ...] = ()
    if line.kind == GAP_KIND:
        first, until = line.facts.get("from_event"), line.facts.get("to_event")
        notes = (f"line {line.seq}: a build without an audit log wrote the events {first} to {until}",)
    return _Line(
        sys.intern(line.chain),
        line.seq,
        sys.intern(line.kind),
        line.prev,
        line.hash,
        sys.intern(name) if isinstance(name, str) and line.chain.startswith("agent:") else "",
        notes,
    )


def texts_of(part: Part) -> list[str]:
    """The lines of a part as they are, without their line feeds; a part has one at least."""
    return part.text.removesuffix("\n").split("\n")


def _lines(part: Part) -> list[_Read]:
    """The lines of a part; text without its line feed is the last one's, and damaged."""
    texts = texts_of(part)
    rest = not part.text.endswith("\n")
    found: list[_Read] = []
    for place, text in enumerate(texts, 1):
        whole = place < len(texts) or not rest
        try:
            found.append(_Read(part.name, place, _judged(read(text)) if whole else None, "it does not end"))
        except BadLine as error:
            found.append(_Read(part.name, place, None, str(error)))
    return found


def _named(part: Part, first: _Line | None, last: _Line | None) -> AuditProblem | None:
    """Whether a part bears the name that its lines give it."""
    match = PART.fullmatch(part.name)
    if first is None or last is None:
        return None
    if match is None or int(match[1]) != first.seq or match[2] != last.hash[:HASH_SHOWN]:
        told = f"the part has the lines {first.seq} to {last.seq}, and not the name that they give it"
        return _problem(AuditTrouble.EDITED, first.seq, part.name, told)
    return None


def _problem(trouble: AuditTrouble, seq: int, part: str, detail: str) -> AuditProblem:
    return AuditProblem(trouble=trouble, seq=seq, part=part, detail=detail)
