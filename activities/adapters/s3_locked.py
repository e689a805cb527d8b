"""A bucket whose objects are locked when they are written: nobody removes a version before its time is over."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from activities.adapters.s3_store import S3Settings, S3Store

MODE = "GOVERNANCE"
"""Who may bypass it is the bucket owner's to say; a worker may not."""


class LockedS3Store(S3Store):
    """Implements `ObjectStore`; the bucket must have object lock, and so versions."""

    def __init__(
        self, bucket: str, prefix: str = "", *, settings: S3Settings | None = None, retention: timedelta
    ) -> None:
        """Lock each object for so long."""
        super().__init__(bucket, prefix, settings=settings)
        self._retention = retention

    async def _put(self, key: str, data: bytes, condition: dict[str, Any]) -> str:
        lock = {"ObjectLockMode": MODE, "ObjectLockRetainUntilDate": datetime.now(UTC) + self._retention}
        return await super()._put(key, data, condition | lock)
