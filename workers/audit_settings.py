"""Settings of the audit log: the key of its digests, a store of its own, and for how long that locks its objects."""

import base64
import binascii
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from activities.audit_digests import KEY_BYTES
from hibernaut._keyring import read
from hibernaut.errors import InvalidSettings

KEY = "HIBERNAUT_AUDIT_KEY"
KEY_FILE = "HIBERNAUT_AUDIT_KEY_FILE"
STORE = "HIBERNAUT_AUDIT_STORE"
RETENTION = "HIBERNAUT_AUDIT_RETENTION_DAYS"
MAX_DAYS = 36_500


class AuditSettings(BaseModel):
    """What the environment says of the audit log."""

    model_config = ConfigDict(frozen=True)

    key: bytes = Field(default=b"", repr=False, exclude=True)
    """HIBERNAUT_AUDIT_KEY, or the content of the file HIBERNAUT_AUDIT_KEY_FILE; none: digests are plain."""
    store: str | None = None
    """A store of its own, such as a bucket with versions and object lock; none: the agents' store."""
    retention: timedelta | None = None
    """For how long each object is locked when it is written; none: as the bucket itself says."""


def audit_from(env: Mapping[str, str], check_store: Callable[[str], str]) -> AuditSettings:
    """Read and check HIBERNAUT_AUDIT_*.

    Raises:
        InvalidSettings: with what cannot be used.
    """
    store = env.get(STORE) or None
    if store is not None:
        try:
            check_store(store)
        except ValueError as error:
            raise InvalidSettings(f"{STORE} {error}.") from None
    return AuditSettings(key=_key(env), store=store, retention=_retention(env, store))


def _key(env: Mapping[str, str]) -> bytes:
    text, path = env.get(KEY), env.get(KEY_FILE)
    if text and path:
        raise InvalidSettings(f"{KEY} and {KEY_FILE} are both set.", hint="Set one of them.")
    if path:
        text = read(Path(path), KEY_FILE).strip()
    elif not text:
        return b""
    try:
        key = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) != KEY_BYTES:
        where = f"{KEY_FILE} ({path})" if path else KEY
        raise InvalidSettings(
            f"{where} is not the base64 of {KEY_BYTES} bytes.", hint=f"`openssl rand -base64 {KEY_BYTES}` makes one."
        )
    return key


def _retention(env: Mapping[str, str], store: str | None) -> timedelta | None:
    text = env.get(RETENTION)
    if not text:
        return None
    if not (text.isascii() and text.isdecimal()) or not 1 <= int(text) <= MAX_DAYS:
        raise InvalidSettings(f"{RETENTION} must be a number of days from 1 to {MAX_DAYS}, not {text[:20]!r}.")
    if store is None or not store.startswith("s3://"):
        raise InvalidSettings(
            f"{RETENTION} is set, and the audit log has no bucket of its own.",
            hint=f"Set {STORE} to s3://bucket/prefix of a bucket with object lock: `python -m deploy.minio` makes one.",
        )
    return timedelta(days=int(text))
