"""An answer from a host of secrets, without their values: head and body, whatever it was packed into."""

import zlib
from collections.abc import Iterator
from http import HTTPStatus

import h11

from activities.egress.policy import Refused
from activities.egress.replacing import Replacer, Texts
from activities.egress.traffic import PIECE

_FRAMING = frozenset({b"content-length", b"transfer-encoding"})
_OF_BYTES = frozenset({b"content-md5", b"digest", b"content-digest", b"repr-digest", b"alt-svc", b"accept-ranges"})
"""What is true no longer, or says where else to ask."""
_AUTOMATIC = 32 + zlib.MAX_WBITS
"""gzip or zlib, whichever it is."""


class Scrubber:
    """One answer."""

    def __init__(self, texts: Texts, *, asked: bytes) -> None:
        """Take these out of the answer to a request of this method."""
        self._texts = texts
        self._asked = asked
        self._body = Replacer(texts)
        self._packed: _Unpacking | None = None

    def head(self, head: h11.Response) -> h11.Response:
        """The head as it is handed back.

        Raises:
            Refused: What follows cannot be looked at.
        """
        said = b", ".join(value.strip() for name, value in head.headers if name == b"content-encoding")
        coding = said.lower()
        bodiless = self._asked == b"HEAD" or head.status_code in {HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED}
        left_out = _OF_BYTES
        if not bodiless:
            if coding in {b"gzip", b"x-gzip", b"deflate"}:
                self._packed = _Unpacking()
            elif coding not in {b"identity", b""}:
                shown = self._texts.whole(said).decode("latin-1")[:40]
                raise Refused(
                    f"the host answers in the encoding {shown!r}, in which secrets cannot be looked for",
                    status=HTTPStatus.BAD_GATEWAY,
                )
            left_out |= _FRAMING | {b"content-encoding"}
        headers = [
            (name, self._texts.whole(value))
            for name, value in head.headers
            # Names come in lower case, in which a value may be one.
            if name not in left_out and self._texts.whole(name) == name
        ]
        return h11.Response(status_code=head.status_code, reason=self._texts.whole(bytes(head.reason)), headers=headers)

    def body(self, data: bytes, *, last: bool = False) -> Iterator[bytes]:
        """The next of the body, in pieces of bounded size.

        Raises:
            ConnectionAbortedError: It is not packed as its head says.
        """
        for piece in self._packed.feed(data) if self._packed is not None else (data,):
            if said := self._body.feed(piece):
                yield said
        if last and self._packed is not None and not self._packed.whole:
            raise ConnectionAbortedError("the host's answer ends before what is packed in it does")
        if last and (said := self._body.feed(b"", last=True)):
            yield said


class _Unpacking:
    def __init__(self) -> None:
        self._one = zlib.decompressobj(_AUTOMATIC)
        self._begun = False

    @property
    def whole(self) -> bool:
        """Whether nothing of it is missing."""
        return self._one.eof or not self._begun

    def feed(self, data: bytes) -> Iterator[bytes]:
        try:
            while data:
                self._begun = True
                if self._one.eof:
                    # A file of gzip may have several members.
                    self._one = zlib.decompressobj(_AUTOMATIC)
                yield self._one.decompress(data, PIECE)
                data = self._one.unconsumed_tail or self._one.unused_data
        except zlib.error as error:
            raise ConnectionAbortedError("the host's answer is not packed as it says") from error
