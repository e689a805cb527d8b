"""Replaces texts in a stream of bytes, with the same result however the stream is cut into pieces."""

from collections.abc import Mapping

_HEAD = 6
"""Bytes of a text by which a place is found where it may begin."""


class Texts:
    """What is replaced by what; shared by any number of streams."""

    def __init__(self, replacements: Mapping[bytes, bytes]) -> None:
        """Replace each of these: what begins first, and of several that begin together the longest."""
        self.by = {text: replacements[text] for text in sorted(replacements, key=len, reverse=True) if text}

    def __bool__(self) -> bool:
        """Whether there is anything to replace."""
        return bool(self.by)

    def begun(self, data: bytes, at: int) -> int:
        """Where a text may have begun that ends in what is still to come; the length of the data when nowhere."""
        return min((_begun(text, data, at) for text in self.by), default=len(data))

    def whole(self, data: bytes) -> bytes:
        """Replace in what is no stream."""
        return Replacer(self).feed(data, last=True)


class Replacer:
    """One stream."""

    def __init__(self, texts: Texts) -> None:
        """Nothing has come yet."""
        self.texts = texts
        """What is looked for in what comes next; may be exchanged meanwhile."""
        self._held = b""
        self.used: set[bytes] = set()
        """The texts that were found."""

    def feed(self, data: bytes, *, last: bool = False) -> bytes:
        """What is certain of the stream after these bytes: all of it with the last ones."""
        if not self.texts:
            return data
        data, self._held = self._held + data, b""
        search = _Search(self.texts, data)
        out: list[bytes] = []
        at, begun = 0, -1
        while at < len(data):
            start, found = search.first(at)
            # A longer text may begin there, or one that begins earlier may end later.
            if begun < at:
                begun = len(data) if last else self.texts.begun(data, at)
            if begun < len(data) and begun <= start:
                out.append(data[at:begun])
                self._held = data[begun:]
                break
            out.append(data[at:start])
            at = start + len(found)
            if found:
                self.used.add(found)
                out.append(self.texts.by[found])
            else:
                break
        return b"".join(out)


class _Search:
    """The texts in some data, each looked for once over its whole length, however many are found."""

    def __init__(self, texts: Texts, data: bytes) -> None:
        self._data = data
        self._places = {text: place for text in texts.by if (place := data.find(text)) >= 0}

    def first(self, at: int) -> tuple[int, bytes]:
        """The first place from here on and the text at it; the end and nothing when there is none."""
        for text, place in list(self._places.items()):
            if place < at:
                self._places[text] = self._data.find(text, at)
                if self._places[text] < 0:
                    del self._places[text]
        # The longest come first, and `min` takes the first of equals.
        text = min(self._places, key=self._places.__getitem__, default=b"")
        return (self._places[text], text) if text else (len(self._data), b"")


def _begun(text: bytes, data: bytes, at: int) -> int:
    """The first place from `at` on where the data's end is a beginning of the text, and not all of it."""
    place = max(at, len(data) - len(text) + 1)
    head = text[:_HEAD]
    while (place := data.find(head, place)) >= 0:
        if text.startswith(data[place:]):
            return place
        place += 1
    # The last few bytes may be a part of its head.
    first = max(at, len(data) - len(head) + 1, len(data) - len(text) + 1)
    return next((place for place in range(first, len(data)) if text.startswith(data[place:])), len(data))
