"""The audit log on the real engine, in a bucket with versions and object lock; damaged in the bucket itself."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from uuid import uuid4

import boto3
import pytest
from botocore.exceptions import ClientError
from pydantic import SecretStr
from temporalio.client import Client

from activities.ports.store import ObjectStore
from activities.transcript import Transcript
from examples.scripted_model import respond, say, shell
from hibernaut import AgentClient, PersonNeeded
from hibernaut._audit_chain import host_chain
from hibernaut.contracts import StoreKeys
from hibernaut.errors import AgentNotFound
from hibernaut.models import ApprovalRule, ApprovalSpec
from hibernaut.models.audit import AuditLine, AuditReport
from tests.integration.conftest import LabFactory, retire
from tests.integration.gateway_world import TOKEN, on_record, serving
from workers import wiring
from workers.audit_settings import AuditSettings
from workers.gateway import Gateway
from workers.settings import Settings

WORDS = "the-words-of-an-agent"
ASKS_FOR_CAT = ApprovalSpec(policy="rules", rules=(ApprovalRule(command="cat", then="ask"),), default="allow")
KEY = b"a key of the audit log, 32 bytes"


class Vault:
    """A bucket for the audit log alone, with versions and object lock."""

    def __init__(self, settings: Settings) -> None:
        secret = settings.s3_secret_access_key
        self.name = f"audit-{uuid4().hex[:8]}"
        self.s3 = boto3.client(  # pyright: ignore[reportUnknownMemberType]  # an overload for every service
            "s3",
            endpoint_url=settings.s3_endpoint,
            region_name=settings.s3_region,
            aws_access_key_id=settings.s3_access_key_id,
            aws_secret_access_key=secret.get_secret_value() if secret else None,
        )
        self.s3.create_bucket(Bucket=self.name, ObjectLockEnabledForBucket=True)
        self.audit = AuditSettings(key=KEY, store=f"s3://{self.name}/log", retention=timedelta(days=1))

    def keys(self, prefix: str) -> list[str]:
        found = self.s3.list_objects_v2(Bucket=self.name, Prefix=f"log/{prefix}")
        return [one["Key"] for one in found.get("Contents", []) if "Key" in one]


@asynccontextmanager
async def audited(settings: Settings, temporal: Client, store: ObjectStore) -> AsyncGenerator[AgentClient]:
    """A client with a gateway that reads the audit log."""
    audit = wiring.audit_store(settings)
    gateway = Gateway(
        temporal=temporal,
        store=store,
        snapshots=wiring.history(settings, store),  # pyright: ignore[reportArgumentType]  # no files are read
        sandboxes=None,
        transcript=Transcript(store),
        host_id=settings.host_id,
        token=SecretStr(TOKEN),
        max_upload_bytes=1,
        audit=audit,
    )
    async with serving(gateway) as url, AgentClient.over(temporal, gateway_url=url, gateway_token=TOKEN) as client:
        yield client
    await audit.close()


async def _lines(client: AgentClient, agent: str | None = None, host: str | None = None) -> list[AuditLine]:
    return [line async for line in client.audit.lines(agent, host=host)]


async def _until(look: Callable[[], Awaitable[AuditReport]], wanted: Callable[[AuditReport], bool]) -> AuditReport:
    while not wanted(report := await look()):
        pass
    return report


@pytest.mark.slow
async def test_a_life_is_on_record_and_every_damage_of_the_record_is_found(  # noqa: PLR0915  # a life is long
    settings: Settings, temporal: Client, store: ObjectStore
) -> None:
    vault = Vault(settings)
    own = settings.model_copy(update={"audit": vault.audit, "host_id": f"{settings.host_id}-audit"})
    script = [shell(f"echo {WORDS} > /root/kept"), shell("cat /root/kept"), respond(lambda _: say("done"))]
    try:
        async with LabFactory(own, temporal, store)(script) as it, audited(own, temporal, store) as client:
            agent = await it.start(approval=ASKS_FOR_CAT)
            with pytest.raises(PersonNeeded) as needed:
                await agent.send("go", message_id="m1", timeout=60, until_asked=True)
            await agent.approve(needed.value.waiting.call_id, by="ada")
            await agent.wait("m1", timeout=60)
            await agent.hibernate(timeout=60)
            await on_record(agent)
            uid = (await agent.status()).agent_uid

            lines = await _lines(client, agent.id)
            kinds = [line.kind for line in lines]
            assert {"agent.started", "sandbox.acquired", "exec", "snapshot.taken", "agent.hibernated"} <= set(kinds)
            (decided,) = [line for line in lines if line.kind == "approval.decided"]
            assert decided.facts["by"] == "ada"
            ran = [line for line in lines if line.kind == "exec"]
            assert [line.facts["exit_code"] for line in ran] == [0, 0]
            assert all(set(line.digests) == {"command", "stdout", "stderr"} for line in ran)
            assert all(digest.startswith("hmac-sha256:") for line in ran for digest in line.digests.values())
            assert ran[0].digests["stdout"] != ran[1].digests["stdout"], "one wrote nothing"
            report = await client.audit.verify(agent.id)
            assert (report.sound, report.anchored, report.pending) == (True, True, 0), report

            # The host tells of the same computer, in a chain of its own.
            seen = host_chain(own.host_id)
            told = await _until(
                lambda: client.audit.verify(host=own.host_id), lambda found: found.chain == seen and found.lines > 0
            )
            assert told.sound, told
            created = [line for line in await _lines(client, host=own.host_id) if line.kind == "sandbox.created"]
            assert [line.facts["agent_uid"] for line in created] == [uid]

            keys = vault.keys(StoreKeys.agent_audit(uid))
            assert WORDS not in "".join([text async for _, text in client.audit.texts(agent.id)])
            version = vault.s3.head_object(Bucket=vault.name, Key=keys[0]).get("VersionId", "")
            with pytest.raises(ClientError, match=r"AccessDenied|locked|WORM|retention"):
                vault.s3.delete_object(Bucket=vault.name, Key=keys[0], VersionId=version)

            # Whoever may write to the bucket hides what was there behind a newer version, and no more than that.
            whole = vault.s3.get_object(Bucket=vault.name, Key=keys[0])["Body"].read()
            vault.s3.put_object(Bucket=vault.name, Key=keys[0], Body=whole.replace(b'"by":"ada"', b'"by":"eve"'))
            damaged = (await client.audit.verify(agent.id)).problem
            assert damaged is not None
            assert damaged.trouble == "edited"
            vault.s3.delete_object(Bucket=vault.name, Key=keys[0])
            damaged = (await client.audit.verify(agent.id)).problem
            assert damaged is not None
            assert damaged.trouble in {"gap", "truncated"}
            old = vault.s3.get_object(Bucket=vault.name, Key=keys[0], VersionId=version)["Body"].read()
            assert old == whole, "the first version is there"
            vault.s3.put_object(Bucket=vault.name, Key=keys[0], Body=whole)

            for key in vault.keys(StoreKeys.host_audit(own.host_id)):
                vault.s3.delete_object(Bucket=vault.name, Key=key)
            lost = (await client.audit.verify(host=own.host_id)).problem
            assert lost is not None
            assert lost.trouble in {"gap", "truncated"}

            await agent.close()
            await agent.delete()
            with pytest.raises(AgentNotFound, match="goes by its uid"):
                await client.audit.verify(agent.id)
            gone = await client.audit.verify(uid)
            assert (gone.sound, gone.anchored, gone.agent_id) == (True, False, agent.id)
            assert (await _lines(client, uid))[-1].kind == "agent.closed"
            vault.s3.delete_object(Bucket=vault.name, Key=vault.keys(StoreKeys.agent_audit(uid))[-1])
            cut = (await client.audit.verify(uid)).problem
            assert cut is not None
            assert cut.trouble == "truncated", "the line that ends the chain of an agent that is gone is missing"
    finally:
        await retire(temporal)
