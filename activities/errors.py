"""Errors that activities raise.

    HibernautActivityError
    ├── StoreError                  the object store answered in a way we cannot use
    │   ├── InvalidKey              the key (or the store's URL) cannot be used
    │   ├── ObjectNotFound          no object under this key
    │   ├── ObjectExists            a conditional write found an object
    │   ├── PreconditionFailed      compare-and-swap found another version
    │   ├── BucketNotFound          the bucket or folder of the store is missing
    │   ├── StoreAccessDenied       credentials are missing, wrong or too narrow
    │   └── StoreUnavailable        unreachable, timed out or overloaded; worth a retry
    ├── SandboxError                a container could not be created, used or removed
    │   ├── SandboxLost             the container of the lease is gone, stopped or restarted
    │   ├── ImageNotFound           the image is neither on the host nor to be pulled
    │   ├── SandboxRefused          the Docker daemon rejects the spec
    │   ├── SandboxUnavailable      the Docker daemon does not answer; worth a retry
    │   ├── InvalidCommand          the command cannot be handed to a shell
    │   └── PathNotUsable           the path cannot be read or written in the container
    ├── ModelError                  a language model could not be asked
    │   ├── ModelUnavailable        rate limit, server error, timeout, cut stream; worth a retry
    │   │   └── ReplyUnusable       a whole reply that cannot be taken
    │   ├── ModelPerhapsPaid        given up, for what was asked may have been paid
    │   └── ModelRejected           the provider refuses the request for good
    │       ├── ModelUnpriced       money is limited, and the model has no price
    │       └── ContextOverflow     the conversation is longer than the model's window
    ├── TranscriptError             the conversation as it is kept in the store
    │   ├── TranscriptConflict      another request has already kept its reply under this step
    │   └── TranscriptDamaged       a segment, record or text is missing or unreadable
    ├── ArtifactTooLarge            a file to be published has more bytes than the spec allows
    └── SnapshotError
        ├── SnapshotNotFound        no snapshot under this reference, nor an earlier one
        ├── SnapshotDamaged         bytes of a snapshot do not match their digests
        ├── SnapshotSealed          it is sealed with a key that is not known here
        ├── SnapshotTooNew          a later release has written it in a format of its own
        ├── SnapshotTooLarge        the files have more bytes than the spec allows a snapshot
        ├── SnapshotConflict        another snapshot already bears this number
        ├── SnapshotFenced          a later generation of the sandbox has taken over
        ├── SnapshotOvertaken       a pruning or collection overtook it; worth a retry
        ├── SnapshotNameTaken       another snapshot of the agent bears this name
        ├── InvalidSnapshotName     the name cannot be used
        ├── ImageMismatch           the container's image is not the snapshot's
        ├── PathEscape              a path would leave the container's root
        ├── FileNotInSnapshot       the path does not exist in the snapshot
        ├── FileInImageOnly         the path is not in the delta; the image may hold it
        └── CaptureError            the container's files could not be read or written
            ├── SandboxNotFresh     another snapshot was begun in this container
            └── CaptureToolMissing  the image lacks GNU find or GNU tar

`code` is stable and meant for programs; `retryable` says whether the same call may succeed later without anyone's help;
the message says what failed, where, and how to mend it. No message holds a secret.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from activities.ports.sandbox import CommandEnd


class HibernautActivityError(Exception):
    """Root of all errors that activities raise on purpose."""

    code: ClassVar[str] = "HibernautActivityError"
    """The type of the failure that Temporal records: the name of the class."""
    retryable: ClassVar[bool] = False
    details: tuple[object, ...] = ()
    """What else the failure carries that Temporal records; plain data."""

    def __init_subclass__(cls) -> None:
        """Name the code."""
        super().__init_subclass__()
        cls.code = cls.__name__


class StoreError(HibernautActivityError):
    """The object store answered in a way we cannot use."""

    retryable = True


class InvalidKey(StoreError):
    """The key or the store's URL cannot be used."""

    retryable = False


class ObjectNotFound(StoreError):
    """No object under this key."""

    retryable = False


class ObjectExists(StoreError):
    """A conditional write found an object under its key."""

    retryable = False


class PreconditionFailed(StoreError):
    """Compare-and-swap found another version than the one expected."""

    retryable = False


class BucketNotFound(StoreError):
    """The bucket or folder that the store's URL names is missing.

    Retryable: an operator makes it, and until then nothing may be given up.
    """

    retryable = True


class StoreAccessDenied(StoreError):
    """Credentials are missing, wrong or too narrow.

    Retryable: an operator mends them, and until then nothing may be given up.
    """

    retryable = True


class StoreUnavailable(StoreError):
    """The store cannot be reached, timed out or is overloaded."""

    retryable = True


class SnapshotError(HibernautActivityError):
    """A snapshot could not be taken, read or restored."""


class SnapshotNotFound(SnapshotError):
    """No snapshot under this reference, nor an earlier one of its chain."""


class SnapshotDamaged(SnapshotError):
    """Bytes of a snapshot are missing or do not match their digests."""


class SnapshotSealed(SnapshotError):
    """It is sealed with a key that is not known here: it is whole, and an operator has to bring the key."""


class SnapshotTooNew(SnapshotError):
    """It is written in a format that this release does not know: it is whole, and a later release reads it."""


class SnapshotTooLarge(SnapshotError):
    """The files of the sandbox that differ from its image have more bytes than the spec allows."""


class ArtifactTooLarge(HibernautActivityError):
    """A file that was to be published has more bytes than the spec allows."""


class SnapshotConflict(SnapshotError):
    """Another snapshot, of another parent or generation, already bears this number."""


class SnapshotFenced(SnapshotError):
    """A later generation of the agent's sandbox has taken over, or the agent is gone: this one writes no more."""


class SnapshotOvertaken(SnapshotError):
    """A pruning or a collection overtook it: the same call again finds out anew what there is to build on."""

    retryable = True


class SnapshotNameTaken(SnapshotError):
    """Another snapshot of the agent bears this name."""


class InvalidSnapshotName(SnapshotError):
    """The name of a snapshot is too long, or has other characters than a name may have."""


class ImageMismatch(SnapshotError):
    """The container's image is not the one the snapshot is a delta of."""


class PathEscape(SnapshotError):
    """A path of a snapshot would leave the container's root."""


class FileNotInSnapshot(SnapshotError):
    """The path does not exist in the snapshot."""


class FileInImageOnly(SnapshotError):
    """The path is not in the snapshot's delta; the image may hold it."""


class CaptureError(SnapshotError):
    """The container's files could not be read or written."""

    retryable = True


class SandboxNotFresh(CaptureError):
    """Another snapshot, or one that proved damaged, was begun in this container; a new container is needed."""

    retryable = False


class CaptureToolMissing(CaptureError):
    """The image lacks GNU find or GNU tar, which capture through the Docker API needs."""

    retryable = False


class SandboxError(HibernautActivityError):
    """A container could not be created, used or removed."""

    retryable = True


class SandboxLost(SandboxError):
    """The container of the lease is gone, stopped, or was restarted."""

    retryable = False

    def __init__(self, message: str, *, started: bool = False, end: CommandEnd | None = None) -> None:
        super().__init__(message)
        self.started = started
        """Whether a command may have been running in it."""
        self.end = end
        """What became of the command that was asked for, when the container was restarted and its journal knows."""


class ImageNotFound(SandboxError):
    """The image is neither on the host nor to be pulled."""

    retryable = False


class SandboxRefused(SandboxError):
    """The Docker daemon rejects the spec."""

    retryable = False


class SandboxUnavailable(SandboxError):
    """The Docker daemon does not answer."""

    retryable = True


class InvalidCommand(SandboxError):
    """The command cannot be handed to a shell."""

    retryable = False


class PathNotUsable(SandboxError):
    """The path cannot be read or written in the container."""

    retryable = False


class ModelError(HibernautActivityError):
    """A language model could not be asked."""

    perhaps_paid = False
    """Whether the provider may charge for the request all the same."""


class ModelUnavailable(ModelError):
    """The provider does not answer as it should at the moment: rate limit, server error, timeout, cut stream."""

    retryable = True

    def __init__(self, message: str, *, retry_after: float | None = None, perhaps_paid: bool = False) -> None:
        super().__init__(message)
        self.perhaps_paid = perhaps_paid
        self.retry_after = retry_after
        """Seconds the provider asks to be left alone, when it says so."""


class ModelRejected(ModelError):
    """The provider refuses the request for good: bad request, authentication, unknown model, unknown provider."""


class ContextOverflow(ModelRejected):
    """The conversation is longer than the model's window."""


class TranscriptError(HibernautActivityError):
    """The conversation as it is kept in the store cannot be used."""


class TranscriptConflict(TranscriptError):
    """Another request has already kept its reply under this agent, branch, step and ordinal."""


class TranscriptDamaged(TranscriptError):
    """A segment, an exec record or a text of the conversation is missing or cannot be read."""
