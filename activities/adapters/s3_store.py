"""An object store in a bucket of S3, MinIO, SeaweedFS or whatever speaks S3 with conditional writes.

boto3's client is blocking: every request runs on a thread of the store's own pool. boto3 retries what is worth it, a
bounded number of times. Requests and answers carry checksums as botocore's settings say
(AWS_REQUEST_CHECKSUM_CALCULATION).
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar, cast
from urllib.parse import urlsplit, urlunsplit

import boto3.session
from botocore.config import Config
from botocore.exceptions import ClientError

from activities.adapters.s3_errors import CONFLICT, TRANSPORT_ERRORS, Place, code_of, translated, was_retried
from activities.adapters.s3_upload import upload_parts
from activities.errors import ObjectExists, ObjectNotFound, PreconditionFailed, StoreError
from activities.ports.store import ObjectInfo, check_folder, check_key, check_prefix

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable

    from botocore.response import StreamingBody
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import ListObjectsV2OutputTypeDef

_Result = TypeVar("_Result")
_THREADS = 16
_PIECE = 1 << 20
_DELETE_BATCH = 1000
_CONFLICT_TRIES = 6
_STREAM_TRIES = 4


@dataclass(frozen=True, slots=True)
class S3Settings:
    """Endpoint and credentials; whatever is None is found by boto3 in its usual places."""

    endpoint: str | None = None
    region: str | None = None
    access_key: str | None = field(default=None, repr=False)
    secret_key: str | None = field(default=None, repr=False)
    connect_timeout: float = 5.0
    """Seconds."""
    read_timeout: float = 60.0
    """Seconds without a byte."""
    attempts: int = 4
    """Tries of one request, the first included."""


class S3Store:
    """Implements `ObjectStore` on a bucket, under a prefix."""

    def __init__(self, bucket: str, prefix: str = "", *, settings: S3Settings | None = None) -> None:
        self._bucket = bucket
        self._prefix = f"{check_key(prefix)}/" if prefix else ""
        self._client = _make_client(settings or S3Settings())
        self._place = Place(_shown(self._client.meta.endpoint_url), bucket)
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="s3")
        self._bucket_seen = False

    async def get(self, key: str) -> bytes:
        """See `ObjectStore.get`."""
        return await self._read(key, None)

    async def get_range(self, key: str, start: int, length: int) -> bytes:
        """See `ObjectStore.get_range`."""
        if length <= 0:
            if await self.head(key) is None:
                msg = f"There is no object {key!r} in the {self._place}."
                raise ObjectNotFound(msg)
            return b""
        try:
            return await self._read(key, f"bytes={start}-{start + length - 1}")
        except _BeyondEnd:
            return b""

    async def put(self, key: str, data: bytes, *, if_none_match: bool = False) -> None:
        """See `ObjectStore.put`."""
        try:
            await self._put(key, data, {"IfNoneMatch": "*"} if if_none_match else {})
        except PreconditionFailed:
            msg = f"The object {key!r} exists already in the {self._place}."
            raise ObjectExists(msg) from None

    async def stream(self, key: str, *, start: int = 0) -> AsyncIterator[bytes]:
        """See `ObjectStore.stream`; a connection that breaks is taken up where it broke, on the same version."""
        position, etag, tries = start, "", 0
        while True:
            condition = {"IfMatch": etag} if etag else {}
            try:
                body, etag = await self._open(key, f"bytes={position}-" if position else None, condition)
            except _BeyondEnd:
                return
            try:
                while piece := await self._call(key, partial(_read_piece, body)):
                    position += len(piece)
                    yield piece
            except _BrokenBody as error:
                tries += 1
                if tries == _STREAM_TRIES:
                    with translated(self._place, key):
                        raise error.cause from None
            else:
                return
            finally:
                body.close()

    async def put_stream(self, key: str, chunks: AsyncIterator[bytes]) -> int:
        """See `ObjectStore.put_stream`; at most 160 GB, in parts of 16 MiB."""
        return await upload_parts(self._client, self._bucket, self._full(key), chunks, partial(self._call, key))

    async def head(self, key: str) -> ObjectInfo | None:
        """See `ObjectStore.head`."""
        request = partial(self._client.head_object, Bucket=self._bucket, Key=self._full(key))
        try:
            found = await self._call(key, request)
        except ObjectNotFound:
            await self._check_bucket()
            return None
        return ObjectInfo(key=key, size=found["ContentLength"], etag=found["ETag"], modified=found["LastModified"])

    async def list(self, prefix: str) -> AsyncIterator[ObjectInfo]:
        """See `ObjectStore.list`."""
        async for page in self._pages(check_prefix(prefix)):
            for item in page.get("Contents", []):
                key = item.get("Key", "").removeprefix(self._prefix)
                if "LastModified" in item and not key.endswith("/"):
                    yield ObjectInfo(key, item.get("Size", 0), item.get("ETag", ""), item["LastModified"])

    async def list_folders(self, prefix: str) -> AsyncIterator[str]:
        """See `ObjectStore.list_folders`."""
        async for page in self._pages(check_folder(prefix), Delimiter="/"):
            for item in page.get("CommonPrefixes", []):
                yield item.get("Prefix", "").removeprefix(self._prefix)

    async def delete(self, keys: Iterable[str]) -> None:
        """See `ObjectStore.delete`."""
        full = [self._full(key) for key in keys]
        for start in range(0, len(full), _DELETE_BATCH):
            batch = full[start : start + _DELETE_BATCH]
            request = partial(
                self._client.delete_objects,
                Bucket=self._bucket,
                Delete={"Objects": [{"Key": key} for key in batch], "Quiet": True},
            )
            answer = await self._call(batch[0], request)
            failed = [item for item in answer.get("Errors", []) if item.get("Code") != "NoSuchKey"]
            if failed:
                msg = f"{len(failed)} objects of the {self._place} could not be deleted ({failed[0].get('Code', '')})."
                raise StoreError(msg)

    async def replace(self, key: str, data: bytes, *, if_match: str | None) -> str:
        """See `ObjectStore.replace`."""
        try:
            return await self._put(key, data, {"IfNoneMatch": "*"} if if_match is None else {"IfMatch": if_match})
        except ObjectNotFound:
            msg = f"The object {key!r} in the {self._place} is gone: read it again and retry."
            raise PreconditionFailed(msg) from None

    async def link(self, key: str, seconds: int, disposition: str) -> str:
        """See `Linking.link`; made without a request."""
        params = {"Bucket": self._bucket, "Key": self._prefix + key, "ResponseContentDisposition": disposition}
        return self._client.generate_presigned_url("get_object", Params=params, ExpiresIn=seconds)

    async def close(self) -> None:
        """See `ObjectStore.close`."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._client.close()

    async def _pages(self, prefix: str, **options: Any) -> AsyncIterator[ListObjectsV2OutputTypeDef]:  # noqa: ANN401 - boto3's
        full, token = self._prefix + prefix, dict[str, Any]()
        request = partial(self._client.list_objects_v2, Bucket=self._bucket, Prefix=full, **options)
        while True:
            page: ListObjectsV2OutputTypeDef = await self._call(prefix, partial(request, **token))
            yield page
            if not page.get("IsTruncated"):
                return
            token = {"ContinuationToken": page.get("NextContinuationToken", "")}

    def _full(self, key: str) -> str:
        return self._prefix + check_key(key)

    async def _call(self, key: str, request: Callable[[], _Result]) -> _Result:
        with translated(self._place, key):
            return await asyncio.get_running_loop().run_in_executor(self._pool, request)

    async def _check_bucket(self) -> None:
        """A HEAD cannot tell a missing bucket from a missing object: ask once."""
        if not self._bucket_seen:
            location = partial(self._client.list_objects_v2, Bucket=self._bucket, MaxKeys=1, Prefix=self._prefix)
            await self._call("", location)
            self._bucket_seen = True

    async def _read(self, key: str, span: str | None) -> bytes:
        for attempt in range(_STREAM_TRIES):
            body, _ = await self._open(key, span, {})
            try:
                return await self._call(key, body.read)
            except StoreError as error:
                if not error.retryable or attempt == _STREAM_TRIES - 1:
                    raise
            finally:
                body.close()
        raise AssertionError

    async def _open(self, key: str, span: str | None, condition: dict[str, Any]) -> tuple[StreamingBody, str]:
        ranged: dict[str, Any] = {"Range": span} if span else {}

        def request() -> tuple[StreamingBody, str]:
            try:
                found = self._client.get_object(Bucket=self._bucket, Key=self._full(key), **ranged, **condition)
            except ClientError as error:
                if code_of(error) in ("InvalidRange", "416"):
                    raise _BeyondEnd from None
                raise
            return found["Body"], found["ETag"]

        return await self._call(key, request)

    async def _put(self, key: str, data: bytes, condition: dict[str, Any]) -> str:
        full = self._full(key)

        def request() -> str:
            for attempt in range(_CONFLICT_TRIES):
                try:
                    return self._client.put_object(Bucket=self._bucket, Key=full, Body=data, **condition)["ETag"]
                except ClientError as error:
                    if condition and was_retried(error) and code_of(error) in ("PreconditionFailed", "412"):
                        # An earlier try, whose answer was lost, may have been the one that won.
                        found = self._client.get_object(Bucket=self._bucket, Key=full)
                        if found["Body"].read() == data:
                            return found["ETag"]
                    if code_of(error) not in CONFLICT or attempt == _CONFLICT_TRIES - 1:
                        raise
                    time.sleep(random.uniform(0.05, 0.2) * 2**attempt)  # noqa: S311 - jitter, on a pool thread
            raise AssertionError

        return await self._call(key, request)


class _BeyondEnd(Exception):
    """The range asked for starts at or beyond the object's end."""


class _BrokenBody(Exception):
    """The connection broke while a body was read."""

    def __init__(self, cause: Exception) -> None:
        super().__init__(str(cause))
        self.cause = cause


def _read_piece(body: StreamingBody) -> bytes:
    try:
        return body.read(_PIECE)
    except TRANSPORT_ERRORS as error:
        raise _BrokenBody(error) from None


def _make_client(settings: S3Settings) -> S3Client:
    endpoint = settings.endpoint or os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    config = Config(
        signature_version="s3v4",
        # A custom endpoint seldom has DNS names for its buckets.
        s3={"addressing_style": "path" if endpoint else "auto"},
        retries={"mode": "standard", "total_max_attempts": settings.attempts},
        connect_timeout=settings.connect_timeout,
        read_timeout=settings.read_timeout,
        max_pool_connections=_THREADS,
    )
    with translated(Place(_shown(endpoint or "AWS"), ""), ""):
        session = boto3.session.Session(
            aws_access_key_id=settings.access_key, aws_secret_access_key=settings.secret_key
        )
        region = settings.region or os.environ.get("AWS_REGION") or session.region_name or "us-east-1"
        try:
            client = cast("Any", session).client("s3", endpoint_url=endpoint, region_name=region, config=config)
            return cast("S3Client", client)
        except ValueError:
            msg = f"AWS_ENDPOINT_URL_S3 is not a URL ({_shown(endpoint or '')!r}): give http(s)://host:port."
            raise StoreError(msg) from None


def _shown(endpoint: str) -> str:
    """Return the endpoint without credentials somebody may have put into it."""
    parts = urlsplit(endpoint)
    return (
        urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", "")) if "@" in endpoint else endpoint
    )
