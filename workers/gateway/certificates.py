"""Certificates of deletions: read by the uid of a deleted agent, or by an id that it had."""

from dataclasses import dataclass

from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from activities.errors import ObjectNotFound
from activities.ports.store import ObjectStore
from hibernaut._ids import check_agent_id
from hibernaut.contracts import StoreKeys
from hibernaut.errors import FileMissing
from hibernaut.models.deletion import Certificate, CertificateFound, is_intact


@dataclass(frozen=True, slots=True)
class Certificates:
    """The route `/v1/certificates/{name}`."""

    store: ObjectStore
    key: bytes | None = None
    """Of the digests."""

    async def show(self, request: Request) -> Response:
        """GET: the certificate, and whether its digest is right."""
        name = str(request.path_params["name"])
        check_agent_id(name)
        found = await self._named(name)
        if found is None:
            raise FileMissing(
                f"There is no deletion certificate of {name!r}.",
                hint="It is written at the end of a deletion; `hibernaut delete` says where.",
            )
        return JSONResponse(found.model_dump(mode="json", exclude_unset=True))

    async def _named(self, name: str) -> CertificateFound | None:
        if (found := await self._read(name)) is not None:
            return found
        prefix = StoreKeys.certificates_of(name)
        uids = [info.key.removeprefix(prefix) async for info in self.store.list(prefix)]
        founds = [found for uid in uids if (found := await self._read(uid)) is not None]
        return max(founds, key=lambda one: one.certificate.written_at, default=None)

    async def _read(self, uid: str) -> CertificateFound | None:
        ref = StoreKeys.certificate(uid)
        try:
            certificate = Certificate.model_validate_json(await self.store.get(ref))
        except (ObjectNotFound, ValidationError):
            # What a deletion under way has counted lies beside it.
            return None
        return CertificateFound(ref=ref, certificate=certificate, intact=is_intact(certificate, self.key))
