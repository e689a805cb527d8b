"""Whose a prefix of a store is: a marker that the first worker writes, and that all others compare themselves with.

It also says which keys seal payloads for this owner, so that a worker that lacks one is told so when it starts, and not
when it first meets what that key sealed.
"""

import asyncio
import re
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from activities.errors import ObjectNotFound, PreconditionFailed, StoreUnavailable
from activities.ownership import StoreForeign
from activities.ports.store import ObjectStore
from hibernaut.codec import FILE_VARIABLE, PayloadKeys

KEY = "owner.json"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")
_TRIES = 20
_PAUSE = 0.05


class Owner(BaseModel):
    """The object `owner.json` at the top of a prefix."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    format: Literal["hibernaut-owner/1"] = "hibernaut-owner/1"
    owner: str
    """HIBERNAUT_OWNER of every worker and gateway that uses the prefix."""
    namespace: str
    """The Temporal namespace whose agents are in it."""
    payload_keys: tuple[str, ...] = ()
    """Ids of the keys that seal payloads, or did: every worker needs them all."""


def check_owner(name: str) -> str:
    """The name of an owner.

    Raises:
        ValueError: it cannot be one.
    """
    if NAME.fullmatch(name) is None:
        raise ValueError(f"must be 1 to 200 of A-Z a-z 0-9 . _ -, the first a letter or digit, not {name[:60]!r}")
    return name


async def take(
    store: ObjectStore,
    url: str,
    owner: str,
    namespace: str,
    keys: PayloadKeys | None,
    variable: str = "HIBERNAUT_STORE",
) -> None:
    """Make the prefix of a store this owner's, or see that it is, and note the key that seals payloads.

    Args:
        store: The store.
        url: What it is called, for errors.
        owner: HIBERNAUT_OWNER.
        namespace: The Temporal namespace.
        keys: Those that seal and open payloads; None: that is another store's to say.
        variable: Which setting names the store.

    Raises:
        StoreForeign: it is another owner's, or of another namespace; or a key is missing here.
        StoreError: the store cannot be used.
    """
    for _ in range(_TRIES):
        etag, found = await _look(store, url)
        if found is not None:
            _compare(found, url, owner, namespace, variable)
            if keys is not None:
                _has_keys(found, owner, keys)
        wanted = found or Owner(owner=owner, namespace=namespace)
        if keys is not None and keys.first is not None and keys.first not in wanted.payload_keys:
            wanted = wanted.model_copy(update={"payload_keys": (*wanted.payload_keys, keys.first)})
        if wanted == found or await _swapped(store, etag, wanted):
            return
        await asyncio.sleep(_PAUSE)
    raise StoreUnavailable(f"{KEY} in {url} changes each time it is to be written; try again.")


async def retire(store: ObjectStore, url: str, key: str) -> bool:
    """Strike a key off: nothing that it sealed is needed any more; False when it is not on the list.

    Raises:
        StoreForeign: the marker cannot be read.
        StoreError: the store cannot be used.
    """
    for _ in range(_TRIES):
        etag, found = await _look(store, url)
        if found is None or key not in found.payload_keys:
            return False
        left = tuple(one for one in found.payload_keys if one != key)
        if await _swapped(store, etag, found.model_copy(update={"payload_keys": left})):
            return True
        await asyncio.sleep(_PAUSE)
    raise StoreUnavailable(f"{KEY} in {url} changes each time it is to be written; try again.")


async def _look(store: ObjectStore, url: str) -> tuple[str | None, Owner | None]:
    info = await store.head(KEY)
    if info is None:
        return None, None
    try:
        return info.etag, Owner.model_validate_json(await store.get(KEY))
    except ObjectNotFound:
        return None, None
    except ValidationError:
        raise StoreForeign(
            f"The object {KEY} in {url} is no marker of an owner that this release can read. Use the "
            "release that wrote it or a later one; if nobody did, remove the object and start again."
        ) from None


async def _swapped(store: ObjectStore, etag: str | None, wanted: Owner) -> bool:
    try:
        await store.replace(KEY, wanted.model_dump_json().encode(), if_match=etag)
    except PreconditionFailed:
        return False
    return True


def _compare(found: Owner, url: str, owner: str, namespace: str, variable: str) -> None:
    if found.owner != owner:
        raise StoreForeign(
            f"{url} belongs to the owner {found.owner!r} (its object {KEY} says so), and this is {owner!r}. Set "
            f"{variable} to a prefix of {owner!r}'s own, or HIBERNAUT_OWNER to {found.owner!r} if that is who it "
            "works for."
        )
    if found.namespace != namespace:
        raise StoreForeign(
            f"{url} holds the agents of the Temporal namespace {found.namespace!r} (its object {KEY} says so), and "
            f"this is for {namespace!r}. Set TEMPORAL_NAMESPACE to {found.namespace!r}, or {variable} to another "
            "prefix; if the agents were moved to this namespace, change the field `namespace` of that object."
        )


def _has_keys(found: Owner, owner: str, keys: PayloadKeys) -> None:
    missing = [one for one in found.payload_keys if one not in keys.names]
    if missing:
        listed = ", ".join(missing)
        raise StoreForeign(
            f"Payloads of the owner {owner!r} are sealed with the key {listed}, which is not known here "
            f"({keys.known()}). Put it behind the first one in {FILE_VARIABLE}; if nothing that it sealed is left in "
            f"Temporal, strike it off with `python -m workers.codec retire {missing[0]}`."
        )
