"""Snapshots and what changed between them, drawn for a terminal."""

from collections.abc import Sequence

from rich.text import Text

from hibernaut.cli.columns import aligned
from hibernaut.cli.console import clean, size, spelled
from hibernaut.cli.render import CAPTURED, age, ago, duration, files_table, mode_text
from hibernaut.models import (
    ChangeKind,
    FileEntry,
    FileType,
    SnapshotChange,
    SnapshotDetail,
    SnapshotPath,
    SnapshotSummary,
)

CHANGES = {
    ChangeKind.ADDED: ("+", "green"),
    ChangeKind.CHANGED: ("~", "yellow"),
    ChangeKind.DELETED: ("-", "red"),
}
PACKS_SHOWN = 10
DIGEST_SHOWN = 16


def snapshots_table(snapshots: Sequence[SnapshotSummary]) -> Text:
    """The table of `snapshots ls`."""
    named = any(snapshot.names for snapshot in snapshots)
    head = ["NO", "AGE", "PARENT", "KIND", "BY", "FILES", "CHANGED", "NEW", "TOTAL", "TIME", *(["NAMES"] * named)]
    rows = [[Text(title, style="bold") for title in head]]
    rows += [_row(snapshot, named=named) for snapshot in snapshots]
    return aligned(rows, right={0, 2, 5, 6, 7, 8, 9})


def detail_table(detail: SnapshotDetail) -> Text:
    """All there is to say of one snapshot."""
    one = detail.snapshot
    rows: list[list[Text]] = []

    def row(name: str, value: str, style: str = "") -> None:
        rows.append([Text(name, style="dim"), Text(clean(value), style=style)])

    marks = ["the newest"] * one.newest + [f"named {name}" for name in one.names]
    row("snapshot", ", ".join([str(one.number), *marks]), "bold")
    row("reference", one.ref)
    if detail.damage:
        row("damaged", detail.damage, "bold red")
    if one.created is not None:
        took = f", in {duration(one.duration_ms)}" if one.duration_ms else ""
        row("taken", f"{one.created.astimezone():%Y-%m-%d %H:%M:%S}, {ago(one.created)}{took}")
    row("captured", f"{CAPTURED.get(one.capture, one.capture)}, of sandbox generation {one.generation}")
    row("image", one.image)
    row("parent", _parent(one))
    row("kind", _chain(detail))
    row("changed", f"{_counts(one)} files")
    skipped = f"; {one.skipped:,} sockets or overlong paths left out" if one.skipped else ""
    row("holds", f"{one.files:,} files, {size(one.bytes_total)}{skipped}")
    row("stored", f"{size(one.bytes_new)} new, {size(one.manifest_bytes)} of it the manifest")
    if detail.packs:
        row("restore", f"reads {size(sum(pack.used for pack in detail.packs))} of {len(detail.packs)} packs")
    parts = [aligned(rows)]
    if detail.packs:
        parts.append(_packs(detail))
    if detail.biggest:
        parts.append(aligned([[Text(size(file.size)), Text(spelled(file.path))] for file in detail.biggest], right={0}))
    return Text("\n\n").join(parts)


def paths_table(paths: Sequence[SnapshotPath]) -> Text:
    """Every path of a snapshot: those that are there as `ls -l` has them, then what the image has and it has not."""
    there = files_table([path.file for path in paths if path.file is not None])
    gone = [Text("deleted ", style="red") + Text(spelled(path.path)) for path in paths if path.file is None]
    return Text("\n").join([*([there] if there.plain else []), *gone])


def change_line(change: SnapshotChange) -> Text:
    """One path that changed, on one line."""
    mark, style = CHANGES[change.change]
    either = change.after or change.before
    slash = "/" if either is not None and either.type is FileType.DIRECTORY and change.path != "/" else ""
    line = Text(f"{mark} {spelled(change.path)}{slash}", style=style)
    return line.append(f"  {told}" if (told := _told(change)) else "", style="dim")


def _row(one: SnapshotSummary, *, named: bool) -> list[Text]:
    number = Text(f"{one.number}{'*' if one.newest else ' '}", style="bold" if one.newest else "")
    if one.damage:
        dash = Text("-", style="dim")
        return [number, dash, dash, Text("unreadable", style="bold red"), *([dash] * 6), *([_names(one)] * named)]
    cells = [
        number,
        Text(age(one.created) if one.created is not None else "-", style="dim"),
        Text(_parent(one)),
        Text(clean(one.kind)),
        Text(clean(one.capture)),
        Text(f"{one.files:,}"),
        Text(_counts(one)),
        Text(size(one.bytes_new)),
        Text(size(one.bytes_total)),
        Text(duration(one.duration_ms) if one.duration_ms else "-", style="dim"),
    ]
    return [*cells, _names(one)] if named else cells


def _names(one: SnapshotSummary) -> Text:
    return Text(clean(", ".join(one.names)), style="cyan")


def _counts(one: SnapshotSummary) -> str:
    return f"+{one.added:,} ~{one.changed:,} -{one.deleted:,}"


def _parent(one: SnapshotSummary) -> str:
    """The parent's number; of another agent's snapshot, after a fork, its reference."""
    if one.parent is None:
        return "-"
    own, _, number = one.parent.rpartition("/")
    same = own == one.ref.rpartition("/")[0]
    return str(int(number)) if same and number.isdecimal() else one.parent


def _chain(detail: SnapshotDetail) -> str:
    if detail.snapshot.kind != "delta" or not detail.chain:
        return detail.snapshot.kind
    numbers = " > ".join(str(link.number) for link in detail.chain)
    total = sum(link.manifest_bytes for link in detail.chain)
    return f"delta, {detail.snapshot.depth} above the full one: {numbers} ({size(total)} of manifests)"


def _packs(detail: SnapshotDetail) -> Text:
    head = [Text(title, style="bold") for title in ("PACK", "SIZE", "READ", "")]
    rows = [head]
    for pack in detail.packs[:PACKS_SHOWN]:
        there = Text("missing", style="bold red") if pack.size is None else Text("new" if pack.new else "")
        held = "-" if pack.size is None else size(pack.size)
        rows.append([Text(clean(pack.key.rpartition("/")[2][:DIGEST_SHOWN])), Text(held), Text(size(pack.used)), there])
    if (more := len(detail.packs) - PACKS_SHOWN) > 0:
        lost = sum(pack.size is None for pack in detail.packs[PACKS_SHOWN:])
        rows.append([Text(f"and {more} more" + (f", {lost} of them missing" if lost else ""), style="dim")])
    return aligned(rows, right={1, 2})


def _told(change: SnapshotChange) -> str:
    """What changed of a path that both have; of another, what it is."""
    before, after = change.before, change.after
    if before is None or after is None:
        return _what_it_is(after or before)
    told: list[str] = []
    for what in change.what:
        match what:
            case "type":
                told.append(f"{before.type.value} -> {after.type.value}")
            case "content" if before.size != after.size:
                told.append(f"{size(before.size)} -> {size(after.size)}")
            case "mode":
                told.append(f"mode {before.mode:04o} -> {after.mode:04o}")
            case "owner":
                told.append(f"owner {before.uid}:{before.gid} -> {after.uid}:{after.gid}")
            case "target":
                told.append(f"-> {spelled(after.target or '')}")
            case "time" if len(change.what) > 1:
                pass
            case _:
                told.append(clean(what))
    return ", ".join(told)


def _what_it_is(entry: FileEntry | None) -> str:
    match entry:
        case None:
            return ""
        case FileEntry(type=FileType.FILE):
            return f"{size(entry.size)}, {mode_text(entry)[1:]}" if entry.mode & 0o7000 else size(entry.size)
        case FileEntry(type=FileType.SYMLINK):
            return f"-> {spelled(entry.target or '')}"
        case FileEntry(type=FileType.DIRECTORY):
            return ""
        case _:
            return entry.type.value
