"""The set-up itself: every step looks first, and does nothing that is done already."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from minio import Minio
from minio.commonconfig import ENABLED
from minio.credentials.providers import StaticProvider
from minio.error import InvalidResponseError, MinioAdminException, MinioException, S3Error, ServerError
from minio.minioadmin import MinioAdmin
from urllib3.exceptions import HTTPError

if TYPE_CHECKING:
    from collections.abc import Callable

_APPLIED = "PolicyChangeAlreadyApplied"


class BucketSetupError(Exception):
    """The set-up cannot go on; the message says what failed and how to mend it."""


@dataclass(frozen=True, slots=True)
class Account:
    """An access key with its secret."""

    access_key: str
    secret_key: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be there afterwards."""

    endpoint: str
    """`http(s)://host:port`."""
    bucket: str
    region: str = "us-east-1"
    worker: Account | None = None
    """The user that workers act as; None: none is made."""
    audit_bucket: str | None = None
    """Of the audit log alone, with versions and object lock; None: it has none of its own."""


def set_up(wanted: Wanted, admin: Account, say: Callable[[str], None]) -> None:
    """Make the buckets and, when one is named, the worker's user with a policy for these buckets alone.

    Args:
        wanted: What is to be there.
        admin: An account that may make buckets and users.
        say: Told each step.

    Raises:
        BucketSetupError: The server cannot be reached, or refuses.
    """
    parts = urlsplit(wanted.endpoint)
    if parts.scheme not in ("http", "https") or not parts.netloc or "@" in parts.netloc:
        msg = f"{parts.netloc.rpartition('@')[2] or wanted.endpoint!r} is no endpoint: give http(s)://host:port."
        raise BucketSetupError(msg)
    secure = parts.scheme == "https"
    client = Minio(parts.netloc, admin.access_key, admin.secret_key, secure=secure, region=wanted.region)
    try:
        _make_bucket(client, wanted.bucket, say)
        if wanted.audit_bucket is not None:
            _make_audit_bucket(client, wanted.audit_bucket, say)
        if wanted.worker is not None and wanted.worker.access_key != admin.access_key:
            provider = StaticProvider(admin.access_key, admin.secret_key)
            _make_user(
                MinioAdmin(endpoint=parts.netloc, credentials=provider, region=wanted.region, secure=secure),
                wanted,
                wanted.worker,
                say,
            )
    except S3Error as error:
        msg = f"{wanted.endpoint} refuses ({error.code}): check MINIO_ROOT_USER and MINIO_ROOT_PASSWORD."
        raise BucketSetupError(msg) from None
    except MinioAdminException as error:
        msg = f"{wanted.endpoint} refuses to make the user ({_code(error)}): is it MinIO, and the account its root's?"
        raise BucketSetupError(msg) from None
    except (HTTPError, OSError, InvalidResponseError, ServerError, MinioException) as error:
        msg = f"{wanted.endpoint} does not answer as an S3 server ({type(error).__name__}): check that it runs."
        raise BucketSetupError(msg) from None
    except ValueError as error:
        msg = f"The names given cannot be used: {error}."
        raise BucketSetupError(msg) from None


def policy_for(bucket: str, audit_bucket: str | None = None) -> dict[str, Any]:
    """Return the policy that lets a worker use one bucket: read, write, list and delete; that of the audit only add."""
    return {
        "Version": "2012-10-17",
        "Statement": [
            *(_adding(audit_bucket) if audit_bucket is not None else ()),
            {
                "Effect": "Allow",
                "Action": ["s3:ListBucket", "s3:GetBucketLocation", "s3:ListBucketMultipartUploads"],
                "Resource": [f"arn:aws:s3:::{bucket}"],
            },
            {
                "Effect": "Allow",
                "Action": [
                    "s3:GetObject",
                    "s3:PutObject",
                    "s3:DeleteObject",
                    "s3:AbortMultipartUpload",
                    "s3:ListMultipartUploadParts",
                ],
                "Resource": [f"arn:aws:s3:::{bucket}/*"],
            },
        ],
    }


def _adding(bucket: str) -> tuple[dict[str, Any], ...]:
    """Nothing is deleted, no lock is shortened or bypassed: what is not allowed here is refused."""
    return (
        {
            "Effect": "Allow",
            "Action": ["s3:ListBucket", "s3:GetBucketLocation"],
            "Resource": [f"arn:aws:s3:::{bucket}"],
        },
        {
            "Effect": "Allow",
            "Action": ["s3:GetObject", "s3:PutObject", "s3:PutObjectRetention"],
            "Resource": [f"arn:aws:s3:::{bucket}/*"],
        },
    )


def _make_bucket(client: Minio, bucket: str, say: Callable[[str], None], *, lock: bool = False) -> None:
    if client.bucket_exists(bucket):
        say(f"bucket {bucket} is there")
        return
    try:
        client.make_bucket(bucket, object_lock=lock)
    except S3Error as error:
        # Somebody else made it just now.
        if error.code != "BucketAlreadyOwnedByYou":
            raise
    say(f"bucket {bucket} made{' with object lock' if lock else ''}")


def _make_audit_bucket(client: Minio, bucket: str, say: Callable[[str], None]) -> None:
    _make_bucket(client, bucket, say, lock=True)
    if client.get_bucket_versioning(bucket).status != ENABLED or not _locks(client, bucket):
        msg = f"The bucket {bucket!r} is there without object lock, which only a new one gets: name another one."
        raise BucketSetupError(msg)


def _locks(client: Minio, bucket: str) -> bool:
    """Whether a bucket has object lock: versions alone are to be had without."""
    try:
        client.get_object_lock_config(bucket)
    except S3Error as error:
        if error.code != "ObjectLockConfigurationNotFoundError":
            raise
        return False
    return True


def _make_user(admin: MinioAdmin, wanted: Wanted, worker: Account, say: Callable[[str], None]) -> None:
    bucket = wanted.bucket
    name = f"hibernaut-{bucket}"
    admin.policy_add(name, policy=policy_for(bucket, wanted.audit_bucket))
    admin.user_add(worker.access_key, worker.secret_key)
    try:
        admin.attach_policy([name], user=worker.access_key)
    except MinioAdminException as error:
        if _APPLIED not in _code(error):
            raise
    say(f"user {worker.access_key} may use bucket {bucket} (policy {name})")


def _code(error: MinioAdminException) -> str:
    """Return the server's error code, without the rest of its answer."""
    try:
        return str(json.loads(getattr(error, "_body", "") or "{}").get("Code", "no code"))
    except (ValueError, AttributeError):
        return "no code"
