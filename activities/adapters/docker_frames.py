"""The frames of an attached exec that has no terminal: what is standard output among them."""

import struct

_FRAME = struct.Struct(">BxxxL")
_STDOUT = 1


class Frames:
    """Docker's multiplexed stream: eight bytes (stream, length) before each piece."""

    def __init__(self) -> None:
        """Begin with nothing read."""
        self._head = b""
        self._left = 0
        self._wanted = False

    @property
    def unfinished(self) -> bool:
        """Whether it stands in the middle of a piece."""
        return bool(self._head or self._left)

    def feed(self, raw: bytes) -> bytes:
        """The part of it that is standard output."""
        pieces: list[bytes] = []
        at = 0
        while at < len(raw):
            if not self._left:
                taken = raw[at : at + _FRAME.size - len(self._head)]
                self._head += taken
                at += len(taken)
                if len(self._head) == _FRAME.size:
                    stream, self._left = _FRAME.unpack(self._head)
                    self._wanted = stream == _STDOUT
                    self._head = b""
                continue
            piece = raw[at : at + self._left]
            at += len(piece)
            self._left -= len(piece)
            if self._wanted:
                pieces.append(piece)
        return b"".join(pieces)
