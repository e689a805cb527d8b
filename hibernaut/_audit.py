"""The audit log from the client: read through the gateway, compared with what the workflows know."""

import asyncio
import re
from collections.abc import AsyncGenerator
from contextlib import suppress
from dataclasses import dataclass

from temporalio.service import RPCError

from hibernaut._audit_chain import BadLine, agent_chain, host_chain, read
from hibernaut._audit_verify import Part, Walk, texts_of, verify
from hibernaut._connect import translate
from hibernaut._gateway import GatewayClient
from hibernaut._ids import AGENT_ID, check_agent_id
from hibernaut._temporal import ATTEMPT, Workflows
from hibernaut.contracts import AGENT_WORKFLOW, AUDIT_WORKFLOW, audit_workflow_id
from hibernaut.contracts.audit import AuditChains, AuditPart
from hibernaut.errors import AgentNotFound, InvalidRequest, InvalidSpec, RequestRejected
from hibernaut.models import AgentStatus
from hibernaut.models.audit import AuditHead, AuditLine, AuditReport, AuditTrouble

UID = re.compile(r"[0-9a-f]{32}")
HOST = re.compile(r"(?!\.+$)[A-Za-z0-9._-]{1,100}")
LOOKS = 6
"""Times that a chain is read again whose last lines its workflow has yet to hear of."""
FIRST_WAIT = 0.2
LOOK_UPS = 8
"""Agents asked for at a time: each answer may cost a worker a replay."""


@dataclass(frozen=True, slots=True)
class _Anchor:
    head: AuditHead | None
    """What the workflow knows; None when there is no workflow any more."""
    pending: int = 0
    agent_id: str = ""


@dataclass(frozen=True, slots=True)
class _Chain:
    """One chain: what it is called, where it is read, and whom to ask for its end."""

    name: str
    path: str
    agent_id: str = ""
    uid: str = ""
    host_id: str = ""


class AuditLog:
    """What agents and hosts did, line by line: `AgentClient.audit`.

    A chain is named by `agent`, an agent's id, or the uid of one that was deleted, or by `host`.
    """

    def __init__(self, workflows: Workflows, gateway: GatewayClient) -> None:
        """Made by `AgentClient`."""
        self._workflows = workflows
        self._gateway = gateway

    async def lines(self, agent: str | None = None, *, host: str | None = None) -> AsyncGenerator[AuditLine]:
        """All lines of a chain that can be read, in the order of the parts; `verify` tells whether they are sound.

        Raises:
            AgentNotFound: there is no such agent, and no chain of one.
        """
        async for _, text in self.texts(agent, host=host):
            with suppress(BadLine):
                yield read(text)

    async def texts(self, agent: str | None = None, *, host: str | None = None) -> AsyncGenerator[tuple[str, str]]:
        """Each line of a chain as it is in the store, whatever it is, with the name of its part."""
        chain = await self._chain(agent, host)
        async for part in self._parts(chain):
            for text in texts_of(part):
                yield part.name, text

    async def verify(self, agent: str | None = None, *, host: str | None = None) -> AuditReport:
        """Read a whole chain and check it, its end against what its workflow knows.

        The first problem is in the result, `sound` tells whether there is one.

        Raises:
            AgentNotFound: there is no such agent, and no chain of one.
        """
        return await self._verified(await self._chain(agent, host), anywhere=True)

    async def verify_all(self) -> AsyncGenerator[AuditReport]:
        """The same of every chain: of those in the store, and of those that ought to be there.

        Raises:
            RequestRejected: an agent cannot answer; after the reports of all others.
        """
        known = AuditChains.model_validate(await self._gateway.get_json("/v1/audit"))
        seen: set[str] = set()
        failures: list[RequestRejected] = []
        for name in await self._ids(AGENT_WORKFLOW):
            try:
                chain = await self._chain(name, None)
                if chain.uid not in seen:
                    seen.add(chain.uid)
                    yield await self._verified(chain)
            except (InvalidSpec, AgentNotFound):
                # One that never ran, for its spec was invalid, has done nothing; one may be deleted meanwhile.
                continue
            except RequestRejected as error:
                failures.append(error)
        for uid in known.agents:
            if uid not in seen:
                try:
                    yield await self._verified(_of_uid(uid))
                except RequestRejected as error:
                    failures.append(error)
        begins = audit_workflow_id("")
        for host in sorted({one.removeprefix(begins) for one in await self._ids(AUDIT_WORKFLOW)} | set(known.hosts)):
            yield await self._verified(_of_host(host))
        if failures:
            raise failures[0]

    async def _ids(self, kind: str) -> list[str]:
        query = f"WorkflowType = '{kind}' AND ExecutionStatus != 'ContinuedAsNew'"
        client = self._workflows.client
        try:
            # An id may have been another agent's before, whose run is there still.
            return list(dict.fromkeys([run.id async for run in client.list_workflows(query, rpc_timeout=ATTEMPT)]))
        except RPCError as error:
            raise translate(error, client.namespace) from error

    async def _chain(self, agent: str | None, host: str | None) -> _Chain:
        if (agent is None) == (host is None):
            raise InvalidRequest("Say whose audit log: an agent's or a host's.", hint="One of the two, and not both.")
        if host is not None:
            if HOST.fullmatch(host) is None:
                raise InvalidRequest(f"{host[:100]!r} is no host's id.")
            return _of_host(host)
        check_agent_id(agent or "")
        try:
            status = await self._workflows.query(agent or "", "status", [], AgentStatus)
        except AgentNotFound as error:
            if UID.fullmatch(agent or "") is None:
                hint = (
                    "The chain of an agent that was deleted goes by its uid: `hibernaut audit verify --all` lists them."
                )
                raise AgentNotFound(error.message, agent_id=error.agent_id, hint=hint) from None
            return _of_uid(agent or "")
        return _Chain(
            agent_chain(status.agent_uid), f"/v1/audit/agents/{status.agent_uid}", status.agent_id, status.agent_uid
        )

    async def _parts(self, chain: _Chain, after: str = "") -> AsyncGenerator[Part]:
        async for line in self._gateway.lines(chain.path, {"after": after} if after else None):
            found = AuditPart.model_validate_json(line)
            # A gateway of an older release tells them all.
            if not after or found.name > after:
                yield Part(found.name, found.text)

    async def _verified(self, chain: _Chain, again: int = 2, *, anywhere: bool = False) -> AuditReport:
        """Checked; what a workflow has yet to hear of is waited for.

        With `anywhere`, a chain that goes by its uid may be that of any agent there is.
        """
        # Before the parts: what it knows is there, and what is written meanwhile it does not know yet.
        anchor, walk = await self._anchor(chain, chain.agent_id), Walk(chain.name)
        sound = await self._walked(walk, chain)
        if chain.uid and not chain.agent_id:
            anchor = await self._found(chain, walk.agent_id, anywhere=anywhere)
            sound = sound and await self._walked(walk, chain)
        seen, wait = walk.head.seq, FIRST_WAIT
        for _ in range(LOOKS):
            if not sound or anchor.head is None or anchor.head.seq >= seen:
                break
            await asyncio.sleep(wait)
            wait *= 2
            anchor = await self._anchor(chain, anchor.agent_id)
            # Only what is new, or a chain that grows all the time would never be read to its end.
            sound = await self._walked(walk, chain)
        if not sound:
            report = await self._examined(chain, anchor.agent_id)
            wrong = report.problem
            young = wrong is None or (wrong.trouble is AuditTrouble.FOREIGN and not wrong.part)
            # A listing that lines were added under may lack one: then nothing is wrong but, perhaps, the newest.
            return await self._verified(chain, again - 1, anywhere=anywhere) if young and again else report
        _exists(chain, walk.parts, anchor)
        report = walk.report(anchor.head, over=bool(chain.uid) and anchor.head is None, seen=seen)
        return _named(report, chain, anchor)

    async def _walked(self, walk: Walk, chain: _Chain) -> bool:
        """Go on with the parts that were not read yet; whether they are sound."""
        sound = True
        async for part in self._parts(chain, walk.name):
            sound = sound and walk.take(part)
        return sound

    async def _found(self, chain: _Chain, named: str, *, anywhere: bool) -> _Anchor:
        """The anchor of an agent that goes by its uid: the name is the store's word, and may be a forger's."""
        anchor = await self._anchor(chain, named)
        if anchor.head is not None or not anywhere:
            return anchor
        slots = asyncio.Semaphore(LOOK_UPS)

        async def ask(agent_id: str) -> _Anchor:
            async with slots:
                with suppress(RequestRejected):
                    return await self._anchor(chain, agent_id)
            return anchor

        anchors = await asyncio.gather(*map(ask, await self._ids(AGENT_WORKFLOW)))
        return next((one for one in anchors if one.head is not None), anchor)

    async def _examined(self, chain: _Chain, agent_id: str) -> AuditReport:
        """What is wrong with a chain; takes the memory for all of it."""
        anchor = await self._anchor(chain, agent_id or chain.agent_id)
        parts = [part async for part in self._parts(chain)]
        if anchor.head is None and chain.uid and (named := _named_in(parts)):
            anchor = await self._anchor(chain, named)
            parts = [part async for part in self._parts(chain)]
        report = verify(chain.name, parts, anchor.head, over=bool(chain.uid) and anchor.head is None)
        return _named(report, chain, anchor)

    async def _anchor(self, chain: _Chain, agent_id: str) -> _Anchor:
        """What a workflow knows of the end of a chain."""
        if chain.host_id:
            try:
                head = await self._workflows.query(audit_workflow_id(chain.host_id), "head", [], AuditHead)
            except AgentNotFound:
                return _Anchor(None)
            return _Anchor(head)
        if AGENT_ID.fullmatch(agent_id) is None:
            # None is told, or what is told can be none: who tells it may be who damaged the chain.
            return _Anchor(None)
        try:
            status = await self._workflows.query(agent_id, "status", [], AgentStatus)
        except (AgentNotFound, InvalidSpec):
            return _Anchor(None)
        if status.agent_uid != chain.uid:
            # Another agent was started under the same id.
            return _Anchor(None)
        return _Anchor(status.audit, status.last_event - status.audit.event, agent_id)


def _named(report: AuditReport, chain: _Chain, anchor: _Anchor) -> AuditReport:
    agent_id = report.agent_id or chain.agent_id or anchor.agent_id
    return report.model_copy(update={"pending": anchor.pending, "agent_id": agent_id})


def _exists(chain: _Chain, parts: int, anchor: _Anchor) -> None:
    """Raise when neither the store nor a workflow knows of a chain."""
    if parts or anchor.head is not None:
        return
    if chain.host_id:
        raise InvalidRequest(f"There is no audit log of a host {chain.host_id!r}.", hint="`verify --all` lists them.")
    raise AgentNotFound(f"There is no audit log of an agent {chain.uid!r}.", agent_id=chain.uid)


def _of_uid(uid: str) -> _Chain:
    return _Chain(agent_chain(uid), f"/v1/audit/agents/{uid}", uid=uid)


def _of_host(host_id: str) -> _Chain:
    return _Chain(host_chain(host_id), f"/v1/audit/hosts/{host_id}", host_id=host_id)


def _named_in(parts: list[Part]) -> str:
    """The agent's id, as the first line that tells one has it."""
    for part in sorted(parts, key=lambda part: part.name):
        for text in texts_of(part):
            with suppress(BadLine):
                if isinstance(name := read(text).facts.get("agent_id"), str):
                    return name
    return ""
