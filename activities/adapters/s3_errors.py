"""Turns what boto3 raises into our errors: what failed, where, and how to mend it; never a secret."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn, cast

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionError as BotoConnectionError,
    EndpointConnectionError,
    HTTPClientError,
    IncompleteReadError,
    NoCredentialsError,
    PartialCredentialsError,
)
from urllib3.exceptions import HTTPError as TransportError

from activities.errors import (
    BucketNotFound,
    ObjectNotFound,
    PreconditionFailed,
    StoreAccessDenied,
    StoreError,
    StoreUnavailable,
)

if TYPE_CHECKING:
    from collections.abc import Generator

TRANSPORT_ERRORS = (BotoConnectionError, HTTPClientError, IncompleteReadError, TransportError, OSError)
"""What a connection that breaks in the middle of a body raises."""

_MISSING = {"NoSuchKey", "NotFound", "404"}
_DENIED = {
    "403", "401", "AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken", "ExpiredToken",
    "AllAccessDisabled", "AccountProblem", "Forbidden", "Unauthorized",
}  # fmt: skip
_CHANGED = {"PreconditionFailed", "412"}
CONFLICT = {"ConditionalRequestConflict", "409", "OperationAborted"}
"""A concurrent conditional write is under way: ask again."""

_BUSY_STATUS = frozenset({408, 429, 500, 502, 503, 504})


@dataclass(frozen=True, slots=True)
class Place:
    """Where a store is, for messages."""

    endpoint: str
    bucket: str

    def __str__(self) -> str:
        return f"bucket {self.bucket!r} at {self.endpoint}"


@contextlib.contextmanager
def translated(place: Place, key: str) -> Generator[None]:
    """Raise our errors in place of boto3's."""
    try:
        yield
    except ClientError as error:
        _client_error(error, place, key)
    except (NoCredentialsError, PartialCredentialsError):
        msg = (
            f"There are no credentials for the {place}: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY "
            "(or a profile or role that boto3 finds) in the worker's environment."
        )
        raise StoreAccessDenied(msg) from None
    except EndpointConnectionError:
        msg = f"Nothing answers for the {place}: check that it runs and that AWS_ENDPOINT_URL_S3 is right."
        raise StoreUnavailable(msg) from None
    except TRANSPORT_ERRORS as error:
        msg = f"The connection to the {place} failed ({type(error).__name__}): check the object store and the network."
        raise StoreUnavailable(msg) from None
    except BotoCoreError as error:
        what = type(error).__name__
        msg = f"The request to the {place} could not be made ({what}): check the AWS_ settings of the worker."
        raise StoreError(msg) from None


def code_of(error: ClientError) -> str:
    """Return the S3 error code."""
    return str(error.response.get("Error", {}).get("Code", ""))


def was_retried(error: ClientError) -> bool:
    """Tell whether boto3 had sent the request before: an earlier try may have taken effect."""
    return cast("Any", error.response.get("ResponseMetadata", {})).get("RetryAttempts", 0) > 0


def _client_error(error: ClientError, place: Place, key: str) -> NoReturn:
    code = code_of(error)
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    if code == "NoSuchBucket":
        msg = f"The {place} does not exist: make it (python -m deploy.minio) or mend HIBERNAUT_STORE."
        raise BucketNotFound(msg) from None
    if code in _MISSING:
        msg = f"There is no object {key!r} in the {place}."
        raise ObjectNotFound(msg) from None
    if code in _CHANGED:
        msg = f"The object {key!r} in the {place} was written by someone else: read it again and retry."
        raise PreconditionFailed(msg) from None
    if code in _DENIED:
        msg = (
            f"The {place} refuses our credentials ({code}): check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, "
            "and that they may read, write, list and delete in this bucket."
        )
        raise StoreAccessDenied(msg) from None
    if code in CONFLICT or status in _BUSY_STATUS:
        msg = f"The {place} is overloaded or failing ({code}, HTTP {status}): it is asked again later."
        raise StoreUnavailable(msg) from None
    msg = f"The {place} answered {code or 'an error'} (HTTP {status}) for {key!r}."
    raise StoreError(msg) from None
