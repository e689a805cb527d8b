"""Uploads a stream to S3: one PUT when small, else parts of one size, completed in one atomic request."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from activities.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import CompletedPartTypeDef

PART_BYTES = 16 << 20
_MAX_PARTS = 10_000
_IN_FLIGHT = 3

_Result = TypeVar("_Result")


class _Call(Protocol):
    async def __call__(self, request: Callable[[], _Result], /) -> _Result: ...


async def upload_parts(client: S3Client, bucket: str, key: str, chunks: AsyncIterator[bytes], call: _Call) -> int:
    """Store all of `chunks` under `key`, in at most five parts' memory; return the bytes.

    One that fails or is cancelled is aborted: nothing is visible and, unless the abort fails too, nothing is kept.
    """
    first, more = await _fill(bytearray(), chunks)
    if not more:
        await call(partial(client.put_object, Bucket=bucket, Key=key, Body=bytes(first)))
        return len(first)
    upload = (await call(partial(client.create_multipart_upload, Bucket=bucket, Key=key)))["UploadId"]
    names: dict[str, Any] = {"Bucket": bucket, "Key": key, "UploadId": upload}
    running: set[asyncio.Task[CompletedPartTypeDef]] = set()
    try:
        done, size = await _send_parts(client, names, first, chunks, call, running)
        await call(partial(client.complete_multipart_upload, **names, MultipartUpload={"Parts": done}))
    except BaseException:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        await asyncio.shield(_abort(client, names, call))
        raise
    return size


async def _send_parts(
    client: S3Client,
    names: dict[str, Any],
    first: bytearray,
    chunks: AsyncIterator[bytes],
    call: _Call,
    running: set[asyncio.Task[CompletedPartTypeDef]],
) -> tuple[list[CompletedPartTypeDef], int]:
    buffer, more, size, number = first, True, 0, 0
    done: list[CompletedPartTypeDef] = []
    while buffer:
        part, rest = bytes(buffer[:PART_BYTES]), buffer[PART_BYTES:]
        number += 1
        if number > _MAX_PARTS:
            msg = f"The object {names['Key']!r} is larger than {_MAX_PARTS} parts of {PART_BYTES} bytes: split it."
            raise StoreError(msg)
        running.add(asyncio.create_task(_send_part(client, names, number, part, call)))
        size += len(part)
        if len(running) >= _IN_FLIGHT:
            finished, _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            running -= finished
            done += [task.result() for task in finished]
        buffer, more = await _fill(rest, chunks) if more else (rest, False)
    done += await asyncio.gather(*running)
    running.clear()
    return sorted(done, key=lambda item: item.get("PartNumber", 0)), size


async def _fill(buffer: bytearray, chunks: AsyncIterator[bytes]) -> tuple[bytearray, bool]:
    """Read until there is more than one part; return the bytes, and whether the stream may have more."""
    while len(buffer) <= PART_BYTES:
        try:
            buffer += await anext(chunks)
        except StopAsyncIteration:
            return buffer, False
    return buffer, True


async def _send_part(
    client: S3Client, names: dict[str, Any], number: int, part: bytes, call: _Call
) -> CompletedPartTypeDef:
    answer = await call(partial(client.upload_part, **names, PartNumber=number, Body=part))
    return {"PartNumber": number, "ETag": answer["ETag"]}


async def _abort(client: S3Client, names: dict[str, Any], call: _Call) -> None:
    try:
        await call(partial(client.abort_multipart_upload, **names))
    except StoreError:
        # The first error is the one to tell. What is left, MinIO removes by itself and S3 by a lifecycle rule.
        return
