"""A host's folder, its store and its chain, for tests of the audit log."""

from datetime import UTC, datetime
from pathlib import Path

from activities.adapters.audit_spool import AuditSpool
from activities.adapters.egress_tail import EgressTail
from activities.adapters.local_store import LocalStore
from activities.errors import StoreUnavailable
from activities.host_chain import HostChain
from activities.ports.egress import EgressEvent, Tenant
from hibernaut._audit_chain import host_chain, read
from hibernaut._audit_verify import Part, verify
from hibernaut.contracts import StoreKeys
from hibernaut.models.audit import AuditHead, AuditLine

HOST = "host-1"


class Faulty(LocalStore):
    """Answers as told: `lost` writes and then says that it did not."""

    fault: str | None = None

    async def put(self, key: str, data: bytes, *, if_none_match: bool = False) -> None:
        fault, self.fault = self.fault, None
        if fault == "down":
            raise StoreUnavailable("the store is down")
        await super().put(key, data, if_none_match=if_none_match)
        if fault == "lost":
            raise StoreUnavailable("the answer was lost")


class World:
    """One host's folder and a store."""

    def __init__(self, folder: Path) -> None:
        for name in ("store", "log"):
            (folder / name).mkdir(parents=True)
        self.home = folder / "audit"
        self.log = folder / "log"
        self.spool = AuditSpool(self.home)
        self.store = Faulty(folder / "store")
        self.begin()

    def begin(self) -> None:
        """As a worker that starts where another has ended."""
        if hasattr(self, "chain"):
            self.chain.leave()
        self.chain = HostChain(HOST, self.store, AuditSpool(self.home), EgressTail(self.log))

    async def ship(self, anchor: AuditHead | None = None) -> AuditHead:
        assert self.chain.take()
        await self.chain.open(anchor or AuditHead())
        while await self.chain.ship() is not None:
            pass
        return self.chain.head

    async def parts(self) -> list[Part]:
        prefix = StoreKeys.host_audit(HOST)
        keys = [info.key async for info in self.store.list(prefix)]
        return [Part(key.removeprefix(prefix), (await self.store.get(key)).decode()) for key in keys]

    async def lines(self) -> list[AuditLine]:
        """All lines, once they are found to be sound."""
        parts = await self.parts()
        report = verify(host_chain(HOST), parts, self.chain.head)
        assert report.sound, report.problem
        return [read(text) for part in parts for text in part.text.splitlines()]


def event(number: int, host: str = "example.org") -> EgressEvent:
    return EgressEvent(
        at=datetime(2026, 1, 31, tzinfo=UTC),
        tenant=Tenant("weekly", "a" * 32, 1, "b" * 64),
        kind="decided",
        connection=number,
        method="CONNECT",
        host=host,
        port=443,
        allowed=False,
        reason="not allowed",
    )
