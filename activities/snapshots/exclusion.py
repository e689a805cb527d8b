"""Which paths no snapshot holds: the patterns of `SnapshotSpec.exclude`, compiled once and asked of every path.

Both patterns and paths are walked name by name, all patterns at once. The paths are whatever a hostile container makes
of them: a path takes time in proportion to its length, whatever the patterns are.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from activities.snapshots.entries import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_ANY = "**"
_KEPT = 4096
"""Directories and nodes that are remembered: a hostile container makes as many as it likes."""

_Place = tuple[int, int]
"""(pattern, names of it that were met)."""


class Exclusion:
    """Tells what to leave out: below a path that matches everything, and the path itself unless it is a directory.

    Not thread-safe: it remembers the directories it was asked about last.
    """

    def __init__(self, patterns: Iterable[str]) -> None:
        """Compile patterns, which `SnapshotSpec` has checked."""
        self.patterns = tuple(patterns)
        names = tuple(tuple(pattern.strip("/").split("/")) for pattern in self.patterns)
        self._automaton = _Automaton(names)
        self._start = self._automaton.node(frozenset((number, 0) for number in range(len(names))))
        self._directories: dict[bytes, _Node] = {}

    def __bool__(self) -> bool:
        """Whether anything is left out."""
        return bool(self.patterns)

    def hides_below(self, path: bytes) -> bool:
        """Tell whether nothing below this path belongs to a snapshot, be the path itself what it may."""
        return bool(self.patterns) and self._node(path).matched

    def reaches_below(self, path: bytes) -> bool:
        """Tell whether anything below this path may be left out; if not, nothing needs to be asked of it."""
        return bool(self.patterns) and not self._node(path).dead

    def leaves_out(self, path: bytes, *, directory: bool) -> bool:
        """Tell whether this very path does not belong to a snapshot."""
        if not self.patterns or path == ROOT:
            return False
        above, _, name = path.rpartition(b"/")
        parent = self._directory(above)
        if parent.dead or parent.matched:
            return parent.matched
        return not directory and parent.step(name).matched

    def _node(self, path: bytes) -> _Node:
        if path == ROOT:
            return self._start
        above, _, name = path.rpartition(b"/")
        return self._directory(above).step(name)

    def _directory(self, path: bytes) -> _Node:
        """The node of a directory, without recursion: a path may have two thousand names."""
        found = self._directories.get(path)
        if found is None:
            found = self._start
            for name in path.split(b"/") if path else ():
                found = found.step(name)
            if len(self._directories) >= _KEPT:
                self._directories.clear()
            self._directories[path] = found
        return found


class _Node:
    """Where a path has got in all patterns at once."""

    def __init__(self, automaton: _Automaton, places: frozenset[_Place]) -> None:
        self.matched = any(at == len(automaton.names[pattern]) for pattern, at in places)
        self._automaton = automaton
        self._stay: set[_Place] = set()
        self._literals: dict[str, set[_Place]] = {}
        self._wild: list[tuple[Callable[[str], object], _Place]] = []
        for pattern, at in () if self.matched else places:
            name = automaton.names[pattern][at]
            if name == _ANY:
                self._stay.add((pattern, at))
            elif "*" in name or "?" in name:
                self._wild.append((_compiled(name), (pattern, at + 1)))
            else:
                self._literals.setdefault(name, set()).add((pattern, at + 1))
        self.dead = not (self.matched or places)
        """Whether no pattern can match any more, however the path goes on."""
        self._other: _Node | None = None

    def step(self, name: bytes) -> _Node:
        """Go on by one name of the path."""
        if self.matched or self.dead:
            return self
        text = name.decode("utf-8", "surrogateescape")
        literal = self._literals.get(text)
        wild = [to for matches, to in self._wild if matches(text)]
        if literal is None and not wild:
            # Most names are none that a pattern speaks of.
            if self._other is None:
                self._other = self._automaton.node(frozenset(self._stay))
            return self._other
        return self._automaton.node(frozenset(self._stay.union(literal or (), wild)))


class _Automaton:
    """All nodes that were met: few, however many paths there are."""

    def __init__(self, names: tuple[tuple[str, ...], ...]) -> None:
        self.names = names
        self._nodes: dict[frozenset[_Place], _Node] = {}

    def node(self, places: frozenset[_Place]) -> _Node:
        """Return the node of these places; a `**` may also stand for no name at all."""
        found = self._nodes.get(places)
        if found is None:
            whole = set(places)
            for pattern, at in places:
                while at < len(self.names[pattern]) and self.names[pattern][at] == _ANY:
                    at += 1  # noqa: PLW2901  # one place leads to the next
                    whole.add((pattern, at))
            if len(self._nodes) >= _KEPT:
                self._nodes.clear()
            found = self._nodes[places] = _Node(self, frozenset(whole))
        return found


def _compiled(name: str) -> Callable[[str], object]:
    """A name with `*` and `?` as a regular expression that never goes back.

    Each `*` but the last ends at the first place where what follows it stands, which is enough to find a match if there
    is one.
    """
    first, *others = ("".join("." if char == "?" else re.escape(char) for char in part) for part in name.split("*"))
    if not others:
        return re.compile(first, re.DOTALL).fullmatch
    *inner, last = others
    text = first + "".join(f"(?>.*?{part})" for part in inner) + ".*" + last
    return re.compile(text, re.DOTALL).fullmatch
