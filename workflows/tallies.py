"""Sums of what upkeep did, small enough for the history however many agents there are."""

from hibernaut import contracts

SOUND_LISTED = 500
DAMAGED_LISTED = 500
"""Agents named in a result; all are counted."""
DAMAGES_LISTED = 300
LOST_LISTED = 20_000
"""Over all agents."""
FAILURES_LISTED = 100
MEGABYTE = 1_000_000


def verified(
    result: contracts.VerifyResult, one: contracts.VerifiedAgent, *, asked_for: bool = False
) -> contracts.VerifyResult:
    """With one more agent; one that was asked for by name is listed even if it has no snapshot."""
    return result.model_copy(
        update={
            "agents": (*result.agents, *((one,) if asked_for else _listed(result, one))),
            "checked": result.checked + (not one.error),
            "damaged": result.damaged + bool(one.damages),
            "failed": result.failed + bool(one.error),
            "snapshots": result.snapshots + one.snapshots,
            "packs": result.packs + one.packs,
            "chunks": result.chunks + one.chunks,
            "bytes": result.bytes + one.bytes,
            "losses": result.losses + one.losses,
        }
    )


def thinned(result: contracts.CollectionResult, page: contracts.PruneAgentsResult) -> contracts.CollectionResult:
    """With one more page of agents."""
    return result.model_copy(
        update={
            "agents": result.agents + page.agents,
            "removed": result.removed + page.removed,
            "kept": result.kept + page.kept,
            "failed": (*result.failed, *page.failed)[:FAILURES_LISTED],
            "failures": result.failures + len(page.failed),
        }
    )


def collected(result: contracts.CollectionResult, one: contracts.CollectResult) -> contracts.CollectionResult:
    """With one more pass."""
    before = result.collected
    return result.model_copy(
        update={
            "collected": one.model_copy(
                update={
                    "passes": before.passes + 1,
                    "condemned": before.condemned + one.condemned,
                    "released": before.released + one.released,
                    "swept": before.swept + one.swept,
                    "bytes_swept": before.bytes_swept + one.bytes_swept,
                }
            )
        }
    )


def told(result: contracts.VerifyResult | contracts.CollectionResult) -> str:
    """The result in a few sentences, for the web UI."""
    if isinstance(result, contracts.VerifyResult):
        lost = f"{result.damaged} with damage, {_count(result.losses, 'snapshot')} lost"
        failed = f", {result.failed} could not be verified" if result.failed else ""
        read = f"{_count(result.snapshots, 'snapshot')}, {_count(result.packs, 'pack')}, {_size(result.bytes)} read"
        return f"{_count(result.checked, 'agent')}: {lost if result.damaged else 'no damage'}{failed}. {read}."
    done = result.collected
    failed = f", {_count(result.failures, 'agent')} could not be pruned" if result.failures else ""
    unread = f" {_count(len(done.unreadable), 'manifest')} cannot be read." if done.unreadable else ""
    pruned = f"{_count(result.removed, 'snapshot')} of {_count(result.agents, 'agent')} removed, {result.kept} kept"
    return (f"{pruned}{failed}. " if result.agents else "") + (
        f"{_count(done.swept, 'pack')} deleted ({_size(done.bytes_swept)}), {done.condemned} condemned, "
        f"{done.released} released, {done.waiting} waiting; {_count(done.packs_seen, 'pack')} "
        f"({_size(done.bytes_seen)}) and {_count(done.manifests_seen, 'snapshot')} in the store.{unread}"
    )


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _size(number: int) -> str:
    return f"{number / MEGABYTE:.1f} MB"


def _listed(result: contracts.VerifyResult, one: contracts.VerifiedAgent) -> tuple[contracts.VerifiedAgent, ...]:
    """The agent's own line, as far as there is room for it."""
    if one.sound:
        sound = sum(agent.sound for agent in result.agents)
        return (one,) if sound < SOUND_LISTED and one.snapshots else ()
    if sum(not agent.sound for agent in result.agents) >= DAMAGED_LISTED:
        return ()
    damages = sum(len(agent.damage) for agent in result.agents)
    lost = sum(len(agent.lost) for agent in result.agents)
    return (
        one.model_copy(
            update={
                "damage": one.damage[: max(0, DAMAGES_LISTED - damages)],
                "lost": one.lost[: max(0, LOST_LISTED - lost)],
            }
        ),
    )
