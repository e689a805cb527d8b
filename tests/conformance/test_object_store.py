"""The object stores: one suite for all, and what is particular to each."""

from __future__ import annotations

import os
import secrets
import socket
from typing import TYPE_CHECKING

import pytest

from activities.adapters.local_store import LocalStore
from activities.adapters.s3_store import S3Settings, S3Store
from activities.adapters.stores import open_store
from activities.errors import (
    BucketNotFound,
    InvalidKey,
    ObjectNotFound,
    StoreAccessDenied,
    StoreError,
    StoreUnavailable,
)
from tests.conformance.store_tests import ObjectStoreTests

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from activities.ports.store import ObjectStore
    from tests.support.seaweed import S3Server


class TestLocalStore(ObjectStoreTests):
    """The folder."""

    @pytest.fixture
    async def store(self, tmp_path: Path) -> AsyncIterator[ObjectStore]:
        opened = open_store((tmp_path / "with space" / "store").as_uri())
        yield opened
        await opened.close()

    async def test_no_temporary_file_stays(self, store: ObjectStore, tmp_path: Path) -> None:
        await store.put("a/b", b"1")
        await store.replace("c", b"1", if_match=None)
        files = sorted(name for _, _, names in os.walk(tmp_path) for name in names)
        assert files == ["b", "c", "lock"]

    async def test_a_key_below_an_object(self, store: ObjectStore) -> None:
        await store.put("a", b"")
        with pytest.raises(InvalidKey):
            await store.put("a/b", b"")
        await store.put("c/d", b"")
        with pytest.raises(InvalidKey):
            await store.put("c", b"")

    async def test_deleted_folders_leave_no_trace(self, store: ObjectStore, tmp_path: Path) -> None:
        await store.put("a/b/c", b"")
        await store.delete(["a/b/c"])
        assert [name for _, names, _ in os.walk(tmp_path) for name in names] == ["with space", "store", ".hibernaut"]


class TestS3Store(ObjectStoreTests):
    """S3 over HTTP."""

    @pytest.fixture
    async def bucket(self, s3_server: S3Server) -> str:
        name = f"hibernaut-{secrets.token_hex(6)}"
        s3_server.make_bucket(name)
        return name

    @pytest.fixture
    async def store(self, s3_server: S3Server, bucket: str) -> AsyncIterator[ObjectStore]:
        opened = open_store(f"s3://{bucket}/some/prefix", s3=s3_server.settings)
        yield opened
        await opened.close()

    async def test_prefixes_are_apart(self, s3_server: S3Server, bucket: str, store: ObjectStore) -> None:
        other = open_store(f"s3://{bucket}", s3=s3_server.settings)
        await store.put("key", b"inner")
        assert [info.key async for info in other.list("")] == ["some/prefix/key"]
        with pytest.raises(ObjectNotFound):
            await other.get("key")
        await other.close()

    async def test_wrong_credentials(self, s3_server: S3Server, bucket: str) -> None:
        secret = "not-the-secret"
        settings = S3Settings(endpoint=s3_server.endpoint, access_key=s3_server.access_key, secret_key=secret)
        store = S3Store(bucket, settings=settings)
        for use in (store.get("key"), store.head("key"), store.put("key", b""), store.put_stream("key", _one())):
            with pytest.raises(StoreAccessDenied, match="AWS_SECRET_ACCESS_KEY") as caught:
                await use
            assert secret not in str(caught.value)
            assert caught.value.retryable, "an operator mends it, and until then nothing may be given up"
        await store.close()

    async def test_a_missing_bucket(self, s3_server: S3Server) -> None:
        store = open_store("s3://no-such-bucket-here", s3=s3_server.settings)
        for use in (store.get("key"), store.head("key"), store.put("key", b""), store.put_stream("key", _one())):
            with pytest.raises(BucketNotFound, match="no-such-bucket-here"):
                await use
        await store.close()


async def _one() -> AsyncIterator[bytes]:
    yield b"x"


async def test_nothing_answers_at_the_endpoint() -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        endpoint = f"http://user:hidden@127.0.0.1:{held.getsockname()[1]}"
        settings = S3Settings(endpoint=endpoint, access_key="a", secret_key="b", attempts=2)
        store = S3Store("bucket", settings=settings)
        with pytest.raises(StoreUnavailable, match="AWS_ENDPOINT_URL_S3") as caught:
            await store.get("key")
        assert "hidden" not in str(caught.value)
        assert caught.value.retryable
        await store.close()


async def test_no_credentials_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, "/nonexistent")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    store = S3Store("bucket", settings=S3Settings(endpoint="http://127.0.0.1:1"))
    with pytest.raises(StoreAccessDenied, match="AWS_ACCESS_KEY_ID"):
        await store.get("key")
    await store.close()


@pytest.mark.parametrize(
    "url",
    [
        "",
        "folder",
        "/folder",
        "file:folder",
        "file://host/folder",
        "http://x/y",
        "s3://",
        "s3:///prefix",
        "s3://key:secret@bucket/p",
        "s3://bucket/a//b",
        "s3://bucket/../x",
        "s3://bucket/p?x=1",
    ],
)
def test_urls_that_name_no_store(url: str) -> None:
    with pytest.raises(InvalidKey) as caught:
        open_store(url)
    assert "secret" not in str(caught.value)


def test_an_endpoint_that_is_no_url() -> None:
    with pytest.raises(StoreError, match="AWS_ENDPOINT_URL_S3"):
        S3Store("bucket", settings=S3Settings(endpoint="not a url"))


async def test_two_stores_on_one_folder_share_it(tmp_path: Path) -> None:
    one, two = LocalStore(tmp_path), LocalStore(tmp_path)
    await one.put("key", b"1")
    assert await two.get("key") == b"1"
