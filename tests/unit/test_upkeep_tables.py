"""What people see of upkeep, and how much of it a history holds."""

from hibernaut.cli import upkeep_tables as tables
from hibernaut.contracts import (
    CollectImagesResult,
    CollectionResult,
    CollectResult,
    Damage,
    FailedAgent,
    KeptSnapshot,
    PruneAgentsResult,
    PruneResult,
    UpkeepProgress,
    VerifiedAgent,
    VerifiedImages,
    VerifyResult,
)
from workflows.tallies import collected, thinned, told, verified

GONE = Damage(key="agents/u/snapshots/packs/ab", kind="missing", detail="Is\ngone.\x1b[31m", snapshots=(2, 3))
BROKEN = VerifiedAgent(
    agent_uid="0123456789abcdef",
    agent_id="bob",
    snapshots=3,
    packs=1_000,
    bytes=5_000_000,
    damage=(GONE,),
    damages=2,
    lost=(1, 2, 3),
    losses=4,
)


def test_numbers_in_a_row_are_shortened() -> None:
    assert tables.ranges([7, 1, 2, 3, 9, 10]) == "1-3, 7, 9-10"
    assert tables.ranges([]) == ""


def test_damage_names_snapshots_and_agents() -> None:
    result = verified(VerifyResult(), BROKEN)
    result = verified(result, VerifiedAgent(agent_uid="f" * 32, snapshots=1, packs=1))
    result = verified(result, VerifiedAgent(agent_uid="e" * 32, error="no key"))
    images = VerifiedImages(images=2, packs=3, damage=(GONE,), damages=1, lost=("sha256:x",))
    result = result.model_copy(update={"images": images})
    assert not result.sound
    rows = tables.verified_table(result).plain.splitlines()
    assert rows[1].split() == ["bob", "3", "1,000", "5.0", "MB", "damaged:", "4", "of", "3", "snapshots", "lost"]
    assert rows[2].split() == ["uid", "ffffffffffff…", "1", "1", "0", "B", "sound"]
    assert rows[3].endswith("not verified: no key")
    assert rows[4].endswith("1 of 2 images cannot be loaded")
    lines = [line.plain for line in tables.damage_lines(result)]
    assert lines[0] == "bob: snapshots that cannot be restored: 1-3 and 1 more"
    assert lines[1] == "  missing: agents/u/snapshots/packs/ab (snapshots 2-3): Is gone.\N{REPLACEMENT CHARACTER}[31m"
    assert lines[2] == "  and 1 more"
    assert len(lines) == 5
    assert tables.verified_summary(result) == (
        "2 agents, 4 snapshots, 5.0 MB read, 1 agent with damage, 4 snapshots lost, 1 agent could not be verified"
    )


def test_what_is_pruned_and_why_the_rest_is_not() -> None:
    result = PruneResult(
        agent_uid="u",
        dry_run=True,
        keep="last=2",
        kept=(
            KeptSnapshot(number=1, rules=("base",)),
            KeptSnapshot(number=7, rules=("named",)),
            KeptSnapshot(number=8, rules=("last",)),
            KeptSnapshot(number=9, rules=("last",)),
            KeptSnapshot(number=10, rules=("newest", "last")),
        ),
        kept_count=5,
        removed=(2, 3, 4, 5, 6),
        removed_count=7,
    )
    text = tables.pruned_table(result).plain
    for row in (
        "2-6 and 2 older  would be removed  no rule keeps it",
        "10               kept              the newest, among the last",
        "8-9              kept              among the last",
        "1                kept              others build on it",
    ):
        assert row in text.splitlines()
    assert tables.pruned_summary(result) == "7 snapshots would be removed, 5 kept; rules: last=2"


def test_a_collection_tells_what_it_could_not_do() -> None:
    page = PruneAgentsResult(agents=3, removed=5, kept=7, failed=(FailedAgent(agent_uid="u", reason="bad\x07"),))
    result = thinned(CollectionResult(), page)
    result = collected(result, CollectResult(swept=1, bytes_swept=3_000_000, packs_seen=4, waiting=2))
    last = CollectResult(swept=1, bytes_swept=1_000_000, packs_seen=3, unreadable=("agents/x",), more=True)
    result = collected(result, last).model_copy(
        update={"images": CollectImagesResult(objects=1, bytes=9), "images_failure": "no key"}
    )
    shown = [line.split(maxsplit=1) for line in tables.collected_table(result, pruned=True).plain.splitlines()]
    assert ["snapshots", "5 of 3 agents removed, 7 kept"] in shown
    assert ["deleted", "2 packs, 4.0 MB"] in shown
    assert ["images", "1 object of base images deleted, 9 B"] in shown
    troubles = list(tables.collection_troubles(result))
    assert troubles[0] == "agent u was not pruned: bad\N{REPLACEMENT CHARACTER}"
    assert len(troubles) == 4
    assert "1 manifest cannot be read." in told(result)


def test_progress_counts_agents_where_there_are_some() -> None:
    assert tables.progress_text(UpkeepProgress(text="pack 3", done=1, total=1200)) == "1 of 1,200 agents: pack 3"
    assert tables.progress_text(UpkeepProgress(text="a\nb")) == "a b"
    assert tables.progress_text(UpkeepProgress()) == "working"


def test_a_result_fits_the_history_however_much_is_wrong() -> None:
    damage = Damage(key="k" * 150, kind="damaged", detail="d" * 400, snapshots=tuple(range(10_000, 10_200)))
    result = VerifyResult()
    for number in range(3_000):
        broken = VerifiedAgent(
            agent_uid=f"{number:032d}",
            agent_id="n" * 128,
            snapshots=9,
            damage=(damage,) * 20,
            damages=20,
            lost=tuple(range(10_000, 10_100)),
            losses=100,
        )
        result = verified(result, broken)
        result = verified(result, VerifiedAgent(agent_uid=f"s{number:031d}", agent_id="n" * 128, snapshots=1))
    assert (result.checked, result.damaged, result.losses) == (6_000, 3_000, 300_000)
    assert len(result.model_dump_json()) < 1_500_000, "a payload has 2 MB at most"
    assert sum(one.sound for one in result.agents) == 500
