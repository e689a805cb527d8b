"""The secrets of one sandbox in the proxy's memory: toward which hosts, put into what, and taken out of what."""

import base64
import binascii
import ssl
from collections.abc import Iterable

from activities.egress.authority import Authority
from activities.egress.forms import hidden, in_address, in_body
from activities.egress.replacing import Replacer, Texts
from activities.ports.secrets import Grant

_BASIC = b"basic "


class Vault:
    """Has the values; shows none of them."""

    def __init__(self, grants: Iterable[Grant], authority: Authority, upstream: ssl.SSLContext) -> None:
        """Keep these.

        Args:
            grants: The secrets.
            authority: Whose certificates the sandbox trusts.
            upstream: How the hosts themselves are verified.
        """
        self.grants = tuple(grants)
        self._authority = authority
        self.upstream = upstream
        self.scrubbed = hidden({grant.value: grant.placeholder for grant in self.grants})
        """Every value in every form, and the placeholder instead."""

    def swap(self, host: str, port: int, *, tls: bool) -> "Swap | None":
        """What is put into requests to this host; None when no secret is for it."""
        grants = [grant for grant in self.grants if grant.spec.is_for(host, port, tls=tls)]
        return Swap(grants) if grants else None

    def unseen(self, text: str) -> str:
        """A text without values, for what is told of a sandbox: it may have asked for a host that is named so."""
        return self.scrubbed.whole(text.encode("utf-8", "surrogatepass")).decode("utf-8", "surrogatepass")

    def context(self, host: str) -> ssl.SSLContext:
        """By which the sandbox knows the proxy as this host."""
        return self._authority.context(host)


class Swap:
    """Puts the values that are for one host into one request."""

    def __init__(self, grants: Iterable[Grant]) -> None:
        """Put in these and no other."""
        self._grants = {grant.placeholder.encode(): grant for grant in grants}
        self._plain = Texts({mark: grant.value.encode() for mark, grant in self._grants.items()})
        self._address = Texts({mark: in_address(grant.value) for mark, grant in self._grants.items()})

    def address(self, path: bytes, used: set[str]) -> bytes:
        """Put into a path with its query; names that were used are added to `used`."""
        return self._put(self._address, path, used)

    def header(self, name: bytes, value: bytes, used: set[str]) -> bytes:
        """Put into the value of a header."""
        if name == b"authorization" and value[: len(_BASIC)].lower() == _BASIC:
            try:
                pair = base64.b64decode(value[len(_BASIC) :].strip(), validate=True)
            except binascii.Error:
                # A value may be the whole of it: a pair that is in base64 already.
                return self._put(self._plain, value, used)
            return value[: len(_BASIC)] + base64.b64encode(self._put(self._plain, pair, used))
        return self._put(self._plain, value, used)

    def body(self, content_type: bytes) -> Replacer:
        """For a body of this type; see `names` for what it used."""
        return Replacer(Texts({mark: in_body(grant.value, content_type) for mark, grant in self._grants.items()}))

    def names(self, used: Iterable[bytes]) -> set[str]:
        """Of the secrets of these placeholders."""
        return {self._grants[mark].name for mark in used}

    def _put(self, texts: Texts, data: bytes, used: set[str]) -> bytes:
        one = Replacer(texts)
        said = one.feed(data, last=True)
        used |= self.names(one.used)
        return said
