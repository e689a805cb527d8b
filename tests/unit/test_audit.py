"""An agent's audit lines: what of its events is told, and what a retry, another key or another build makes of it."""

import base64
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from activities.adapters.local_store import LocalStore
from activities.audit import AgentAudit
from activities.audit_digests import Digests
from hibernaut._audit_chain import agent_chain, read
from hibernaut._audit_entries import AUDITED, SHOWN_COMMAND
from hibernaut._audit_verify import Part, verify
from hibernaut.contracts import StoreKeys
from hibernaut.errors import InvalidSettings
from hibernaut.models import Event, EventKind
from hibernaut.models.audit import AuditHead, AuditLine, AuditReport
from workers.devstack.settings import (
    AUDIT_KEY,
    Secrets,
    gateway_environment,
    server_environment,
    worker_environment,
)
from workers.settings import Settings
from workflows.inbox import EVENT_TEXT

UID = "a" * 32
KEY = b"k" * 32
SECRET = "what was said"
UNTOLD = {EventKind.COMPACTION_FAILED}
"""Kinds of events that are no line."""


def event(seq: int, kind: EventKind = EventKind.COMMAND, /, **data: object) -> Event:
    at = datetime(2026, 1, 31, 12, 0, seq % 60, tzinfo=UTC)
    return Event.model_validate({"seq": seq, "at": at, "kind": kind, "summary": SECRET, "data": data})


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[LocalStore]:
    one = LocalStore(tmp_path)
    yield one
    await one.close()


async def found(store: LocalStore, head: AuditHead) -> tuple[AuditReport, list[AuditLine]]:
    prefix = StoreKeys.agent_audit(UID)
    keys = [info.key async for info in store.list(prefix)]
    parts = [Part(key.removeprefix(prefix), (await store.get(key)).decode()) for key in keys]
    report = verify(agent_chain(UID), parts, head)
    return report, [read(text) for part in parts for text in part.text.splitlines()] if report.sound else []


def test_every_kind_of_event_is_told_or_known_to_be_none() -> None:
    missing = {kind.value for kind in EventKind} - AUDITED.keys() - {kind.value for kind in UNTOLD}
    assert missing == set(), "name them in the table, or here"


async def test_words_are_digested_and_names_are_told(store: LocalStore) -> None:
    audit = AgentAudit(store, Digests(KEY))
    events = (
        event(1, EventKind.STARTED, agent_uid=UID),
        event(2, EventKind.DECIDED, call_id="c", kind="approval", decision="denied", by="ada", reason=SECRET),
        event(3, command=SECRET, stdout_head=SECRET, exit_code=3, command_digest="hmac-sha256:00:11"),
        event(4, EventKind.RECOVERY, how="restored", lost_commands=[SECRET], reason=SECRET),
    )
    head = await audit.append("weekly", UID, events, AuditHead())
    report, lines = await found(store, head)
    assert report.sound
    started, decided, ran, recovered = lines
    assert started.facts["agent_id"] == "weekly"
    assert (decided.facts["by"], decided.facts["decision"]) == ("ada", "denied")
    assert decided.digests == {"reason": Digests(KEY).of(SECRET.encode())}
    assert (ran.facts["exit_code"], ran.digests) == (3, {"command": "hmac-sha256:00:11"})
    assert recovered.digests.keys() == {"reason"}
    assert SECRET not in "".join(line.model_dump_json() for line in lines)


async def test_a_command_that_was_lost_with_its_host_is_digested_as_its_event_shows_it(store: LocalStore) -> None:
    assert SHOWN_COMMAND == EVENT_TEXT
    long = "x" * EVENT_TEXT
    events = (event(1, kind="unknown", command=SECRET), event(2, kind="unknown", command=long), event(3))
    head = await AgentAudit(store, Digests(KEY)).append("w", UID, events, AuditHead())
    _, lines = await found(store, head)
    assert [line.digests for line in lines] == [
        {"command": Digests(KEY).of(SECRET.encode())},
        {"command_head": Digests(KEY).of(long.encode())},
        {},
    ]


async def test_a_retry_changes_nothing(store: LocalStore) -> None:
    events = (event(1), event(2))
    heads = {(await AgentAudit(store, Digests(KEY)).append("w", UID, events, AuditHead())).hash for _ in range(3)}
    assert len(heads) == 1
    report, lines = await found(store, await AgentAudit(store, Digests(KEY)).append("w", UID, events, AuditHead()))
    assert (report.sound, report.parts, len(lines)) == (True, 1, 2)


async def test_a_retry_under_another_key_keeps_what_was_written(store: LocalStore) -> None:
    events = (event(1, EventKind.PAUSED, reason=SECRET),)
    first = await AgentAudit(store, Digests(KEY)).append("w", UID, events, AuditHead())
    second = await AgentAudit(store, Digests(b"o" * 32)).append("w", UID, events, AuditHead())
    assert first == second
    report, _ = await found(store, second)
    assert (report.sound, report.parts) == (True, 1)


async def test_a_part_with_other_digests_under_the_same_key_is_not_taken_for_an_earlier_try(store: LocalStore) -> None:
    audit = AgentAudit(store, Digests(KEY))
    forged = await audit.append("w", UID, (event(1, EventKind.PAUSED, reason="harmless"),), AuditHead())
    head = await audit.append("w", UID, (event(1, EventKind.PAUSED, reason=SECRET),), AuditHead())
    assert head.hash != forged.hash
    report, _ = await found(store, head)
    assert report.problem is not None
    assert report.problem.trouble == "foreign"


async def test_a_foreign_part_in_the_way_stops_no_agent_and_is_found(store: LocalStore) -> None:
    audit = AgentAudit(store, Digests(KEY))
    forged = await audit.append("w", UID, (event(1, exit_code=0),), AuditHead())
    head = await audit.append("w", UID, (event(1, exit_code=1),), AuditHead())
    assert forged.hash != head.hash
    report, _ = await found(store, head)
    assert report.problem is not None
    assert report.problem.trouble == "foreign"


async def test_a_part_damaged_between_two_tries_is_not_written_over(store: LocalStore) -> None:
    audit = AgentAudit(store, Digests(KEY))
    head = await audit.append("w", UID, (event(1),), AuditHead())
    (key,) = [info.key async for info in store.list(StoreKeys.agent_audit(UID))]
    await store.put(key, b"{}\n")
    assert await audit.append("w", UID, (event(1),), AuditHead()) == head
    report, _ = await found(store, head)
    assert report.problem is not None, "and the agent goes on all the same"


async def test_what_an_older_build_wrote_is_told_as_a_gap(store: LocalStore) -> None:
    audit = AgentAudit(store, Digests())
    head = await audit.append("w", UID, (event(5),), AuditHead())
    head = await audit.append("w", UID, (event(9),), head)
    report, lines = await found(store, head)
    assert report.sound
    assert [line.kind for line in lines] == ["chain.gap", "exec", "chain.gap", "exec"]
    assert [line.facts.get("from_event") for line in lines] == [1, None, 6, None]
    assert len(report.notes) == 2
    assert report.agent_id == "w"


async def test_events_of_which_nothing_is_told_write_nothing(store: LocalStore) -> None:
    head = await AgentAudit(store, Digests()).append("w", UID, (event(1, EventKind.COMPACTION_FAILED),), AuditHead())
    assert (head.seq, head.event) == (0, 1)
    assert [info.key async for info in store.list("")] == []


def test_a_digest_tells_its_scheme_and_never_its_key() -> None:
    plain, keyed = Digests(), Digests(KEY)
    assert plain.of(b"x").startswith("sha256:")
    assert keyed.of(b"x").startswith("hmac-sha256:")
    assert keyed.of(b"x") != Digests(b"o" * 32).of(b"x")
    growing = keyed.begin()
    growing.update(b"a")
    growing.update(b"b")
    assert keyed.told(growing) == keyed.of(b"ab")
    assert KEY.decode() not in repr(keyed)


STORE = {"HIBERNAUT_STORE": "s3://bucket/prefix"}
GOOD = "a2tra2tra2tra2tra2tra2tra2tra2tra2tra2tra2s="


def test_settings_of_the_audit_log(tmp_path: Path) -> None:
    settings = Settings.load(STORE | {"HIBERNAUT_AUDIT_KEY": GOOD})
    assert (settings.audit.key, settings.audit.store) == (KEY, None)
    assert GOOD not in repr(settings)
    path = tmp_path / "key"
    path.write_text(GOOD)
    path.chmod(0o600)
    own = {"HIBERNAUT_AUDIT_STORE": "s3://audit/log", "HIBERNAUT_AUDIT_RETENTION_DAYS": "365"}
    settings = Settings.load(STORE | own | {"HIBERNAUT_AUDIT_KEY_FILE": str(path)})
    assert settings.audit.key == KEY
    assert settings.audit.retention is not None
    assert settings.audit.retention.days == 365


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"HIBERNAUT_AUDIT_KEY": "short"}, "HIBERNAUT_AUDIT_KEY is not the base64 of 32 bytes"),
        ({"HIBERNAUT_AUDIT_KEY": GOOD, "HIBERNAUT_AUDIT_KEY_FILE": "/x"}, "both set"),
        ({"HIBERNAUT_AUDIT_KEY_FILE": "/nonexistent"}, "HIBERNAUT_AUDIT_KEY_FILE names /nonexistent"),
        ({"HIBERNAUT_AUDIT_STORE": "ftp://x"}, "HIBERNAUT_AUDIT_STORE must be s3://"),
        ({"HIBERNAUT_AUDIT_RETENTION_DAYS": "7"}, "no bucket of its own"),
        ({"HIBERNAUT_AUDIT_STORE": "s3://a/b", "HIBERNAUT_AUDIT_RETENTION_DAYS": "0"}, "from 1 to"),
    ],
)
def test_wrong_settings_are_named(wrong: dict[str, str], told: str) -> None:
    with pytest.raises(InvalidSettings) as caught:
        Settings.load(STORE | wrong)
    assert told in str(caught.value)
    assert GOOD not in str(caught.value)


def test_the_development_stack_gives_its_key_to_the_worker_alone(tmp_path: Path) -> None:
    key = Secrets.of(tmp_path).audit_key
    assert Settings.load(STORE | worker_environment({}, key)).audit.key == base64.b64decode(key)
    assert Secrets.of(tmp_path).audit_key == key
    named = {AUDIT_KEY: GOOD}
    assert worker_environment(named, key) == named
    assert server_environment(named) == gateway_environment(named) == {}
    old = tmp_path / "old"
    old.mkdir()
    (old / "secrets.json").write_text('{"gateway_token":"t","s3_access_key":"a","s3_secret_key":"s"}')
    assert (Secrets.of(old).gateway_token, len(Secrets.of(old).audit_key)) == ("t", 44), "a home of an older release"
