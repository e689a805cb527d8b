"""The deletion certificate: what was removed of an agent, what was looked for afterwards, what is kept and why.

It holds ids, counts and bytes; no name of a file, no text.
"""

import hashlib
import hmac
import json
from datetime import datetime
from typing import Literal

from pydantic import ConfigDict, Field

from hibernaut.models.base import Open

CERTIFICATE = "hibernaut-deletion/1"
NAMELESS = "none-"
"""Begins the name of what never had a uid; the run id of its deletion follows."""


class Paper(Open):
    """A part of a certificate: fields that this release does not know stay in it, for its digest is over them too."""

    model_config = ConfigDict(extra="allow")


class Amount(Paper):
    """How much of something."""

    objects: int = 0
    bytes: int = 0
    """As stored."""


class Inspection(Paper):
    """What was looked for once everything was removed."""

    what: str
    """A prefix of the store, or a kind of workflow runs."""
    found: int
    """How many were there, but for what `retained` and `pending` say."""


class Borrower(Paper):
    """An agent whose snapshots need a part of a pack."""

    agent_uid: str
    chunks: int
    bytes: int
    """Plain, before compression."""
    fork: bool = False
    """Whether it is a fork of the deleted agent; else it stored the same content and borrowed it."""


class RetainedPack(Paper):
    """A pack of the deleted agent that stays, as others need a part of it."""

    pack: str
    """The last part of its key."""
    bytes: int
    whole: bool = True
    """Whether it still holds what nobody else needs; else that was overwritten."""
    needed_by: tuple[Borrower, ...]


class Retained(Paper):
    """What is kept."""

    packs: tuple[RetainedPack, ...] = ()
    """Each is kept until nobody needs any of it."""
    audit: Amount = Amount()
    """The agent's audit chain: ids, times and keyed digests."""
    unreadable: int = 0
    """Manifests of others that could not be read: what they need is not known, so the packs are kept for them."""
    why: tuple[str, ...] = ()
    """A sentence for each kind of thing that is kept."""


class Pending(Paper):
    """What nobody needs: emptied, and a later collection deletes it."""

    packs: int = 0
    bytes: int = 0
    why: str = ""


class Seal(Paper):
    """The digest over all other fields: canonical JSON (sorted keys, no spaces, UTF-8) without `digest`."""

    algorithm: Literal["hmac-sha256", "sha256"]
    """`hmac-sha256` where the deployment has a key for it: only who has the key can make another one."""
    value: str
    """Hexadecimal."""


class Certificate(Paper):
    """The object `certificates/<agent_uid>.json`, the last one that a deletion writes."""

    format: Literal["hibernaut-deletion/1"] = CERTIFICATE
    agent_id: str
    agent_uid: str
    """Of an agent that never ran, and never had one: `none-` and the run id of its deletion."""
    asked_by: str = ""
    """As who asked says."""
    asked_at: datetime
    begun_at: datetime
    """When the store was first looked at."""
    written_at: datetime
    removed: dict[str, Amount] = Field(default_factory=dict[str, Amount])
    """What is gone from the store, by kind."""
    runs: dict[str, int] = Field(default_factory=dict[str, int])
    """Workflow runs that are gone from Temporal, by kind."""
    checked: tuple[Inspection, ...] = ()
    retained: Retained = Retained()
    pending: Pending = Pending()
    rewritten: Amount = Amount()
    """Packs in which something was overwritten that nobody needs, those of agents deleted before included that this one
    named; bytes that are gone with it."""
    remnants: tuple[str, ...] = ()
    """What destroyed sandboxes left on their hosts."""
    digest: Seal | None = None


class Deletion(Open):
    """An agent is deleted: the result of `DeleteAgentWorkflow`."""

    objects: int = 0
    """Deleted from the store."""
    agent_uid: str = ""
    certificate: str | None = None
    """Key of the certificate in the store; None from a release that wrote none."""
    digest: str = ""
    """Of the certificate."""
    runs: int = 0
    retained_packs: int = 0
    pending_packs: int = 0
    remnants: tuple[str, ...] = ()


class CertificateFound(Open):
    """A certificate as the gateway reads it."""

    ref: str
    certificate: Certificate
    intact: bool | None = None
    """Whether its digest is right; None when that cannot be told: the gateway has not its key, or it bears none."""


def canonical(certificate: Certificate) -> bytes:
    """What the digest is over: the fields that it was written with, and no others that were thought of since."""
    body = certificate.model_dump(mode="json", exclude={"digest"}, exclude_unset=True)
    return json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def sealed(certificate: Certificate, key: bytes | None = None) -> Certificate:
    """The certificate with its digest, and each of its fields written out."""
    certificate = Certificate.model_validate(certificate.model_dump(exclude={"digest"}))
    return certificate.model_copy(update={"digest": _seal(canonical(certificate), key)})


def written(certificate: Certificate) -> str:
    """The certificate as it lies in the store, and in whoever's copy."""
    return certificate.model_dump_json(indent=1, exclude_unset=True) + "\n"


def is_intact(certificate: Certificate, key: bytes | None = None) -> bool | None:
    """Whether the digest is that of the certificate.

    None where that cannot be told: its key is not at hand, or it was made without the key there is, as anybody could.
    """
    found = certificate.digest
    if found is None:
        return False
    keyed = found.algorithm == "hmac-sha256"
    if keyed and key is None:
        return None
    again = _seal(canonical(certificate), key if keyed else None)
    if not hmac.compare_digest(again.value.encode(), found.value.encode()):
        return False
    return True if keyed or key is None else None


def _seal(data: bytes, key: bytes | None) -> Seal:
    if key is None:
        return Seal(algorithm="sha256", value=hashlib.sha256(data).hexdigest())
    return Seal(algorithm="hmac-sha256", value=hmac.new(key, data, hashlib.sha256).hexdigest())
