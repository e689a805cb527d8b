"""The audit log as it is in the store: which chains there are, and the parts of one. Nothing is judged here."""

from collections.abc import AsyncGenerator
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from activities.ports.store import ObjectStore
from hibernaut.contracts import StoreKeys
from hibernaut.contracts.audit import AuditPart
from hibernaut.errors import InvalidRequest
from workers.gateway import requests
from workers.gateway.streams import NDJSON, ndjson, streamed

_PREFIXES = {"agents": StoreKeys.agent_audit, "hosts": StoreKeys.host_audit}


@dataclass(frozen=True, slots=True)
class Audit:
    """The routes under `/v1/audit`."""

    store: ObjectStore

    async def chains(self, request: Request) -> Response:
        """GET: the uids of agents and the ids of hosts that have a chain."""
        del request
        roots = {"agents": StoreKeys.agent_audits(), "hosts": StoreKeys.host_audits()}
        found = {name: sorted([one async for one in self._below(root)]) for name, root in roots.items()}
        return JSONResponse(found)

    async def parts(self, request: Request) -> Response:
        """GET: every object of one chain with its text, in the order of the names; bytes that are no text are shown.

        With `after`, the name of one, only those that come after it.
        """
        prefix = _PREFIXES.get(str(request.path_params["kind"]))
        if prefix is None:
            raise InvalidRequest("An audit chain is of agents or of hosts.")
        after = requests.query(request).get("after", "")
        return await streamed(self._parts(prefix(requests.item_id(request, "chain_id")), after), NDJSON)

    async def _below(self, root: str) -> AsyncGenerator[str]:
        async for folder in self.store.list_folders(root):
            yield folder.removeprefix(root).rstrip("/")

    async def _parts(self, prefix: str, after: str) -> AsyncGenerator[bytes]:
        async for info in self.store.list(prefix):
            if info.key.removeprefix(prefix) <= after:
                continue
            data = await self.store.get(info.key)
            yield ndjson(AuditPart(name=info.key.removeprefix(prefix), text=data.decode("utf-8", "replace")))
