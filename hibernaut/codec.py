"""Seals what Temporal keeps: every payload of a history with AES-256-GCM, when there is a key.

codec = data_converter(payload_keys(os.environ), "my-namespace")
client = await Client.connect(address, namespace="my-namespace", data_converter=codec)

`AgentClient.connect`, the CLI, workers and gateways do that by themselves. See `docs/codec.md` for the format.
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from hashlib import blake2b
from typing import TYPE_CHECKING

from google.protobuf.message import DecodeError
from temporalio.api.common.v1 import Payload
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.converter import DataConverter, DefaultFailureConverterWithEncodedAttributes, PayloadCodec

from hibernaut._keyring import NamedKey, keys_of
from hibernaut.errors import HibernautError, InvalidSettings

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

VARIABLE = "HIBERNAUT_PAYLOAD_KEYS"
FILE_VARIABLE = f"{VARIABLE}_FILE"
SEAL_VARIABLE = "HIBERNAUT_PAYLOAD_SEAL"
ENCODING = b"binary/encrypted"
KEY_ID = "encryption-key-id"
"""The metadata that names the key."""
MAGIC = b"hibernaut-payload/1"
ID_BYTES = 8
NONCE_BYTES = 12
TAG_BYTES = 16


class PayloadSealed(HibernautError):
    """What Temporal has is sealed with a key that is not known here."""

    code = "payload_sealed"


class PayloadDamaged(HibernautError):
    """What Temporal has does not open with its key."""

    code = "payload_damaged"


class PayloadKeys:
    """Keys by their ids: the first one seals what is new, all of them open."""

    def __init__(self, keys: Iterable[NamedKey], *, sealing: bool = True) -> None:
        """Take these keys; with `sealing` off they open alone.

        Raises:
            InvalidSettings: there is a key, and the package that seals is not installed.
        """
        found = {key_id(key.secret): key for key in keys}
        self.names: dict[str, str] = {one: key.name for one, key in found.items()}
        """Names of the keys by their ids, in their order."""
        self.first: str | None = next(iter(found), None) if sealing else None
        """Id of the key that seals what is new; None: nothing is sealed."""
        self._ciphers = {one: _cipher(key.secret) for one, key in found.items()}

    def __repr__(self) -> str:
        """Show no secret."""
        return f"PayloadKeys({self.names})"

    def seal(self, payload: Payload, namespace: str) -> Payload:
        """What Temporal is to have of a payload; the payload itself when there is no key."""
        if self.first is None:
            return payload
        # Chance repeats none of 2^32 nonces of a key: the odds are below 2^-32.
        nonce = os.urandom(NONCE_BYTES)
        data = self._ciphers[self.first].encrypt(nonce, payload.SerializeToString(), _bound(self.first, namespace))
        return Payload(metadata={"encoding": ENCODING, KEY_ID: self.first.encode()}, data=nonce + data)

    def open(self, payload: Payload, namespace: str) -> Payload:
        """What was sealed in this namespace; what is not sealed is returned as it is.

        Raises:
            PayloadSealed: with a key that is not known here.
            PayloadDamaged: it was changed, or sealed in another namespace.
        """
        if payload.metadata.get("encoding") != ENCODING:
            return payload
        wanted = payload.metadata.get(KEY_ID, b"").decode(errors="replace")[:64]
        cipher = self._ciphers.get(wanted)
        if cipher is None:
            raise PayloadSealed(
                f"A payload of the namespace {namespace!r} is sealed with the key {wanted!r}, which is not known here "
                f"({self.known()}).",
                hint=f"Put that key behind the first one in {FILE_VARIABLE} (or {VARIABLE}), and start this again.",
            )
        from cryptography.exceptions import InvalidTag  # noqa: PLC0415  # an optional extra, needed with keys alone

        try:
            opened = cipher.decrypt(payload.data[:NONCE_BYTES], payload.data[NONCE_BYTES:], _bound(wanted, namespace))
            return Payload.FromString(opened)
        except (InvalidTag, ValueError, DecodeError):
            raise PayloadDamaged(
                f"A payload does not open with its key {wanted} in the namespace {namespace!r}: it was changed, "
                "belongs to another namespace, or was not sealed as docs/codec.md says."
            ) from None

    def known(self) -> str:
        """Which keys there are, for errors."""
        if not self.names:
            return "no key is"
        return ", ".join(f"{one} is, as {name!r}" for one, name in self.names.items())


class SealingCodec(PayloadCodec):
    """Temporal's payload codec: seals for one namespace, and opens what was sealed for it."""

    def __init__(self, keys: PayloadKeys, namespace: str) -> None:
        """Seal with the first of these keys."""
        self._keys = keys
        self._namespace = namespace

    async def encode(self, payloads: Sequence[Payload]) -> list[Payload]:
        """See Temporal."""
        return [self._keys.seal(payload, self._namespace) for payload in payloads]

    async def decode(self, payloads: Sequence[Payload]) -> list[Payload]:
        """See Temporal.

        Raises:
            PayloadSealed: with a key that is not known here.
            PayloadDamaged: it was changed, or sealed in another namespace.
        """
        return [self._keys.open(payload, self._namespace) for payload in payloads]


NO_KEYS = PayloadKeys(())


def payload_keys(env: Mapping[str, str]) -> PayloadKeys:
    """The keys of HIBERNAUT_PAYLOAD_KEYS_FILE or HIBERNAUT_PAYLOAD_KEYS; none when neither is set.

    With HIBERNAUT_PAYLOAD_SEAL=off they open alone.

    Raises:
        InvalidSettings: they cannot be used.
    """
    sealing = env.get(SEAL_VARIABLE) or "on"
    if sealing not in {"on", "off"}:
        raise InvalidSettings(f"{SEAL_VARIABLE} is {sealing[:20]!r}.", hint="It is on or off.")
    found = keys_of(env, VARIABLE)
    return PayloadKeys(found, sealing=sealing == "on") if found else NO_KEYS


def data_converter(keys: PayloadKeys, namespace: str) -> DataConverter:
    """The converter for a Temporal client of this namespace; without keys it opens nothing, and says so.

    When it seals, it seals failures' messages and stack traces as well.
    """
    codec = SealingCodec(keys, namespace)
    if keys.first is None:
        return replace(pydantic_data_converter, payload_codec=codec)
    return replace(
        pydantic_data_converter,
        payload_codec=codec,
        failure_converter_class=DefaultFailureConverterWithEncodedAttributes,
    )


def key_id(secret: bytes) -> str:
    """What sealed payloads name a key by; nothing of the secret can be told from it."""
    return blake2b(secret, digest_size=ID_BYTES, person=b"hibernaut-payld").hexdigest()


def _bound(key: str, namespace: str) -> bytes:
    """What is authenticated with a payload: it opens in no other namespace."""
    return b"\n".join((MAGIC, key.encode(), namespace.encode()))


def _cipher(secret: bytes) -> "AESGCM":
    try:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415  # an optional extra
    except ImportError as error:
        raise InvalidSettings(
            f"{VARIABLE} is set, and the package that seals is not installed.",
            hint="Install hibernaut[codec].",
        ) from error
    return AESGCM(secret)
