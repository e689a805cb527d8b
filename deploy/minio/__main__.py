"""`python -m deploy.minio`: makes the bucket that HIBERNAUT_STORE names, and the user of the workers."""

from __future__ import annotations

import os
import sys
from urllib.parse import urlsplit

from deploy.minio.buckets import Account, BucketSetupError, Wanted, set_up

_USAGE = """python -m deploy.minio

Makes the bucket of HIBERNAUT_STORE (s3://bucket/prefix) at AWS_ENDPOINT_URL_S3, as the account MINIO_ROOT_USER with
MINIO_ROOT_PASSWORD. When AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY name another account, that user is made too, with
a policy for this bucket alone. With HIBERNAUT_AUDIT_STORE (s3://bucket/prefix) the bucket of the audit log is made as
well, with versions and object lock; the user may add to it, and delete nothing. Whatever is there already is left as it
is.
"""


def main() -> int:
    """Read the environment and set up; 0 when all is there, 1 when not, 2 when the environment is incomplete."""
    if len(sys.argv) > 1:
        sys.stdout.write(_USAGE)
        return 0 if sys.argv[1] in ("-h", "--help") else 2
    environment = os.environ
    store = urlsplit(environment.get("HIBERNAUT_STORE", ""))
    audit = urlsplit(environment.get("HIBERNAUT_AUDIT_STORE", ""))
    names = ("AWS_ENDPOINT_URL_S3", "MINIO_ROOT_USER", "MINIO_ROOT_PASSWORD")
    missing = [name for name in names if not environment.get(name)]
    if store.scheme != "s3" or not store.netloc:
        missing.append("HIBERNAUT_STORE as s3://bucket/prefix")
    if environment.get("HIBERNAUT_AUDIT_STORE") and (audit.scheme != "s3" or audit.netloc in {"", store.netloc}):
        missing.append("HIBERNAUT_AUDIT_STORE as s3://bucket/prefix of another bucket, or not at all")
    if missing:
        sys.stderr.write(f"Set {', '.join(missing)}.\n\n{_USAGE}")
        return 2
    access_key, secret_key = environment.get("AWS_ACCESS_KEY_ID"), environment.get("AWS_SECRET_ACCESS_KEY")
    wanted = Wanted(
        endpoint=environment["AWS_ENDPOINT_URL_S3"],
        bucket=store.netloc,
        region=environment.get("AWS_REGION", "us-east-1"),
        worker=Account(access_key, secret_key) if access_key and secret_key else None,
        audit_bucket=audit.netloc or None,
    )
    admin = Account(environment["MINIO_ROOT_USER"], environment["MINIO_ROOT_PASSWORD"])
    try:
        set_up(wanted, admin, _say)
    except BucketSetupError as error:
        sys.stderr.write(f"minio: {error}\n")
        return 1
    return 0


def _say(text: str) -> None:
    sys.stdout.write(f"minio: {text}\n")


if __name__ == "__main__":
    sys.exit(main())
