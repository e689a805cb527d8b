"""What upkeep did, drawn for a terminal."""

from collections.abc import Iterable, Sequence

from rich.text import Text

from hibernaut.cli.columns import aligned
from hibernaut.cli.console import clean, size
from hibernaut.contracts import CollectionResult, Damage, PruneResult, UpkeepProgress, VerifiedAgent, VerifyResult

RULES = {
    "newest": "the newest",
    "previous": "the one before it",
    "in_use": "the agent goes on from it",
    "recent": "younger than an hour",
    "last": "among the last",
    "hourly": "its hour's newest",
    "daily": "its day's newest",
    "weekly": "its week's newest",
    "named": "has a name",
    "base": "others build on it",
}
UID_SHOWN = 12


def count(number: int, noun: str) -> str:
    """A number of things."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def progress_text(progress: UpkeepProgress) -> str:
    """How far it is, on a line."""
    of = f"{progress.done:,} of {count(progress.total, 'agent')}" if progress.total else ""
    text = " ".join(clean(progress.text).split())
    return ": ".join(part for part in (of, text) if part) or "working"


def ranges(numbers: Iterable[int]) -> str:
    """Numbers with runs of them shortened: `1-4, 7`."""
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)


def verified_table(result: VerifyResult) -> Text:
    """An agent a line."""
    rows = [[Text(title, style="bold") for title in ("AGENT", "SNAPSHOTS", "PACKS", "READ", "RESULT")]]
    for one in result.agents:
        row = [agent_name(one), f"{one.snapshots:,}", f"{one.packs:,}", size(one.bytes)]
        rows.append([*map(Text, row), _outcome(one)])
    if (images := result.images) is not None:
        told = Text("sound", style="green")
        if images.error:
            told = Text(f"not verified: {_line(images.error)}", style="bold yellow")
        elif images.damages:
            told = Text(f"{images.damages} of {count(images.images, 'image')} cannot be loaded", style="bold red")
        row = [f"({count(images.images, 'base image')})", "", f"{images.packs:,}", size(images.bytes)]
        rows.append([*map(Text, row), told])
    return aligned(rows, right={1, 2, 3})


def damage_lines(result: VerifyResult) -> Iterable[Text]:
    """What is wrong, and which snapshots of which agent it affects."""
    for one in result.agents:
        if one.damages or one.losses:
            more = f" and {one.losses - len(one.lost):,} more" if one.losses > len(one.lost) else ""
            lost = (
                f"snapshots that cannot be restored: {ranges(one.lost)}{more}" if one.losses else "all can be restored"
            )
            yield Text(f"{agent_name(one)}: {lost}", style="bold")
            yield from _damage(one.damage, one.damages)
    if result.images is not None and result.images.damages:
        yield Text("base images that cannot be loaded:", style="bold")
        yield from _damage(result.images.damage, result.images.damages)


def verified_summary(result: VerifyResult) -> str:
    """The result in one line."""
    parts = [count(result.checked, "agent"), count(result.snapshots, "snapshot"), f"{size(result.bytes)} read"]
    unlisted = result.checked + result.failed - len(result.agents)
    parts += [f"{count(result.damaged, 'agent')} with damage", f"{count(result.losses, 'snapshot')} lost"] * (
        result.damaged > 0
    )
    parts += [f"{count(result.failed, 'agent')} could not be verified"] * (result.failed > 0)
    parts += [f"{count(unlisted, 'agent')} not listed"] * (unlisted > 0)
    return ", ".join(parts)


def pruned_table(result: PruneResult) -> Text:
    """What goes and what stays, runs of snapshots with the same reason on one line."""
    rows = [[Text(title, style="bold") for title in ("SNAPSHOTS", "", "WHY")]]
    verb = "would be removed" if result.dry_run else "removed"
    if result.removed_count:
        hidden = result.removed_count - len(result.removed)
        more = f" and {hidden:,} older" if hidden else ""
        rows.append([Text(ranges(result.removed) + more), Text(verb, style="red"), Text("no rule keeps it")])
    for numbers, rules in _runs(result):
        why = ", ".join(RULES.get(rule, rule) for rule in rules)
        rows.append([Text(ranges(numbers)), Text("kept", style="green"), Text(why)])
    return aligned(rows)


def pruned_summary(result: PruneResult) -> str:
    """The result in one line."""
    verb = "would be removed" if result.dry_run else "removed"
    hidden = result.kept_count - len(result.kept)
    more = f" ({hidden:,} older ones not listed)" if hidden > 0 else ""
    told = f"{count(result.removed_count, 'snapshot')} {verb}, {result.kept_count:,} kept{more}; rules: {result.keep}"
    freed = "; collections give the space back" if result.removed_count and not result.dry_run else ""
    return told + freed


def collected_table(result: CollectionResult, *, pruned: bool) -> Text:
    """Everything the collection did, a line each."""
    done = result.collected
    rows: list[list[Text]] = []

    def row(name: str, value: str) -> None:
        rows.append([Text(name, style="dim"), Text(value)])

    if pruned:
        row("snapshots", f"{result.removed:,} of {count(result.agents, 'agent')} removed, {result.kept:,} kept")
    row("deleted", f"{count(done.swept, 'pack')}, {size(done.bytes_swept)}")
    row("condemned", f"{count(done.condemned, 'pack')}, deleted by a collection after the grace")
    row("released", f"{count(done.released, 'pack')}, needed again")
    row("waiting", f"{count(done.waiting, 'pack')} condemned in all")
    if result.images.objects:
        row("images", f"{count(result.images.objects, 'object')} of base images deleted, {size(result.images.bytes)}")
    row(
        "store",
        f"{count(done.packs_seen, 'pack')}, {size(done.bytes_seen)}, of {count(done.manifests_seen, 'snapshot')}",
    )
    return aligned(rows)


def collection_troubles(result: CollectionResult) -> Iterable[str]:
    """What could not be done."""
    for one in result.failed:
        yield f"agent {one.agent_uid} was not pruned: {_line(one.reason)}"
    if result.failures > len(result.failed):
        yield f"{result.failures - len(result.failed):,} more agents were not pruned"
    for key in result.collected.unreadable:
        yield f"{key} cannot be read, and whatever it may need was left alone: `hibernaut snapshots verify` says more"
    if result.collected.more:
        yield "there is more to delete: the next collection goes on"
    if result.images_failure:
        yield f"leftovers of base images were not deleted: {_line(result.images_failure)}"


def agent_name(one: VerifiedAgent) -> str:
    """What people call an agent; else the start of its uid."""
    return clean(one.agent_id) or f"uid {one.agent_uid[:UID_SHOWN]}…"


def _outcome(one: VerifiedAgent) -> Text:
    if one.error:
        return Text(f"not verified: {_line(one.error)}", style="bold yellow")
    if one.damages:
        return Text(f"damaged: {one.losses:,} of {count(one.snapshots, 'snapshot')} lost", style="bold red")
    return Text("sound" if one.snapshots else "no snapshots", style="green" if one.snapshots else "dim")


def _damage(damage: Sequence[Damage], damages: int) -> Iterable[Text]:
    for one in damage:
        affects = f" (snapshots {ranges(one.snapshots)})" if one.snapshots else ""
        yield Text.assemble((f"  {one.kind}: ", "red"), f"{clean(one.key)}{affects}: {_line(one.detail)}")
    if damages > len(damage):
        yield Text(f"  and {damages - len(damage):,} more")


def _runs(result: PruneResult) -> list[tuple[list[int], tuple[str, ...]]]:
    """Kept snapshots, the newest first, neighbours with the same reasons together."""
    found: list[tuple[list[int], tuple[str, ...]]] = []
    for one in reversed(result.kept):
        if found and found[-1][1] == one.rules:
            found[-1][0].append(one.number)
        else:
            found.append(([one.number], one.rules))
    return found


def _line(text: str) -> str:
    return " ".join(clean(text).split())
