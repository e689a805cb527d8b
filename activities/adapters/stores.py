"""Opens the object store that a URL names."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from activities.adapters.local_store import LocalStore
from activities.adapters.s3_locked import LockedS3Store
from activities.adapters.s3_store import S3Settings, S3Store
from activities.errors import InvalidKey

if TYPE_CHECKING:
    from datetime import timedelta

    from activities.ports.store import ObjectStore

_HELP = "Set HIBERNAUT_STORE to s3://bucket/prefix (S3, MinIO, SeaweedFS) or to file:///absolute/folder."


def open_store(url: str, *, s3: S3Settings | None = None, lock: timedelta | None = None) -> ObjectStore:
    """Open `file:///folder` or `s3://bucket/prefix`.

    Args:
        url: The store's URL, without credentials.
        s3: Endpoint and credentials; by default what boto3 finds (AWS_ENDPOINT_URL_S3,
            AWS_ACCESS_KEY_ID, AWS_REGION, ...).
        lock: For how long each object of a bucket is locked; None: as the bucket itself says.

    Raises:
        InvalidKey: The URL names no store that we know.
    """
    parts = urlsplit(url)
    if "@" in parts.netloc:
        msg = f"The store's URL must not hold credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY. {_HELP}"
        raise InvalidKey(msg)
    if parts.query or parts.fragment:
        msg = f"The store's URL {url!r} must not have a query or fragment. {_HELP}"
        raise InvalidKey(msg)
    if parts.scheme == "file":
        if parts.netloc not in ("", "localhost") or not parts.path.startswith("/"):
            msg = f"The store's URL {url!r} must name an absolute folder. {_HELP}"
            raise InvalidKey(msg)
        return LocalStore(Path(unquote(parts.path)))
    if parts.scheme == "s3":
        if not parts.netloc:
            msg = f"The store's URL {url!r} names no bucket. {_HELP}"
            raise InvalidKey(msg)
        prefix = unquote(parts.path).strip("/")
        if lock is not None:
            return LockedS3Store(parts.netloc, prefix, settings=s3, retention=lock)
        return S3Store(parts.netloc, prefix, settings=s3)
    msg = f"The store's URL {url!r} has a scheme that is not known. {_HELP}"
    raise InvalidKey(msg)
