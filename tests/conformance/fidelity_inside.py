"""Comparisons where the host does not see a container's files: by find and sha256sum in both containers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.conformance.fidelity_packages import OLDER, PYTHON_PACKAGES
from tests.conformance.fidelity_trees import GIT, TINY_FILES
from tests.conformance.fidelity_world import DOCKERS_OWN, FidelityWorld

if TYPE_CHECKING:
    from pathlib import Path

    from activities.adapters.local_store import LocalStore
    from activities.snapshots.engine import Engine
    from tests.support.boxes import Box, Boxes

# /tmp is a file system of gVisor's own.
_PRUNED = " -o ".join(f"-path {path}" for path in (*DOCKERS_OWN, "/tmp"))
_LOOK = rf"find $1 -xdev \( {_PRUNED} \) -prune -o -printf '%p\0%i\0%y\0%s\0%m %U %G %T@ %l\0'"
# Everything that was written since the container was made; the rest is the image's.
_HASH = rf"find $1 -xdev \( {_PRUNED} \) -prune -o -type f -cnewer /.dockerenv -print0 | xargs -0r sha256sum -z"


def seen(box: Box, top: str = "/") -> dict[bytes, tuple[object, ...]]:
    """Everything about every path: what find tells, its other names, and a digest of what was written."""
    fields = box.run(["sh", "-euc", _LOOK, "-", top]).split(b"\0")
    rows = [tuple(fields[at : at + 5]) for at in range(0, len(fields) - 1, 5)]
    names: dict[bytes, list[bytes]] = {}
    for path, inode, *_ in sorted(rows):
        names.setdefault(inode, []).append(path)
    lines = box.run(["sh", "-euc", _HASH, "-", top]).split(b"\0")
    digests = {line[66:]: line[:64] for line in lines if line}
    return {
        path: (kind, facts, *(() if kind == b"d" else (size, names[inode], digests.get(path))))
        for path, inode, kind, size, facts in rows
    }


class InsideCases(FidelityWorld):
    """What agents leave in their computers, in the size that a slower kernel can bear."""

    def compare(self, source: Box, copy: Box, leave_out: tuple[str, ...] = ()) -> list[str]:
        assert not leave_out
        ours, theirs = seen(source), seen(copy)
        assert len(ours) > 5000
        return [
            f"{path!r}: {ours.get(path)} {theirs.get(path)}"
            for path in sorted(set(ours) | set(theirs))
            if ours.get(path) != theirs.get(path)
        ]

    async def test_the_comparison_sees_what_differs(self, boxes: Boxes) -> None:
        one, other = boxes.make(), boxes.make()
        build = "mkdir /d; cd /d; printf a >a; ln a b; printf c >c; ln -s a l; touch -hd 2020-02-02 * ."
        one.sh(build)
        for change in (
            ":", "printf b >a; touch -r c a", "chmod 600 a", "chown 5 c", "touch -d '2020-02-02 0:0:0.5' c",
            "cp -p a t; mv t b; touch -r c .", "ln -sfn c l; touch -hr c l .", "rm c; touch -r a .",
            ": >d; touch -r c .",
        ):  # fmt: skip
            other.sh(f"rm -rf /d; {build}; {change}")
            assert (seen(one, "/d") == seen(other, "/d")) is (change == ":"), change

    async def test_a_git_repository_with_history(self, engine: Engine, boxes: Boxes, store: LocalStore) -> None:
        source = await self.source(engine, boxes)
        source.sh(GIT)
        first, copy = await self.round_trip(engine, boxes, store, source)
        assert (
            copy.sh("cd /repository; git fsck --full --strict; git stash pop -q; git log --oneline | wc -l") == "10\n"
        )
        source.sh("cd /repository; git stash pop -q; git add -A; git commit -qm more; git rebase -q --root; git gc -q")
        await self.round_trip(engine, boxes, store, source, first)

    async def test_a_virtual_environment(self, engine: Engine, boxes: Boxes, store: LocalStore, wheels: Path) -> None:
        source = await self.source(engine, boxes)
        source.sh("mkdir /wheels")
        source.unpack("/wheels", wheels)
        pip = "/opt/venv/bin/pip install -q --no-index --find-links /wheels"
        source.sh(f"python3 -m venv /opt/venv; {pip} {' '.join(PYTHON_PACKAGES[:-1])}")
        first, _ = await self.round_trip(engine, boxes, store, source)
        source.sh(f"{pip} '{OLDER}'; /opt/venv/bin/pip uninstall -q -y pyyaml")
        _, copy = await self.round_trip(engine, boxes, store, source, first)
        assert copy.sh("/opt/venv/bin/python -c 'import sqlalchemy, flask; print(6 * 7)'") == "42\n"

    async def test_debian_packages(self, engine: Engine, boxes: Boxes, store: LocalStore, debs: Path) -> None:
        source = await self.source(engine, boxes)
        source.sh("mkdir /debs")
        source.unpack("/debs", debs)
        # One pass leaves out a package that pre-depends on another of the same call: the second takes it up.
        install = "DEBIAN_FRONTEND=noninteractive dpkg --install --skip-same-version /debs/*.deb"
        installed = source.sh(f"{install} 2>&1 || {install} 2>&1; rm -r /debs")
        assert installed.count("Setting up ") >= 50
        first, _ = await self.round_trip(engine, boxes, store, source)
        assert first.files_total > 1500
        source.sh("dpkg --purge jq tree; dpkg --audit; su -s /bin/sh -c id nobody")
        _, copy = await self.round_trip(engine, boxes, store, source, first)
        assert copy.sh("dpkg --verify; dpkg --audit") == source.sh("dpkg --verify; dpkg --audit")
        assert copy.sh("sqlite3 :memory: 'select 6 * 7'") == "42\n"

    async def test_node_modules(self, engine: Engine, boxes: Boxes, store: LocalStore, node_modules: Path) -> None:
        source = await self.source(engine, boxes)
        source.sh("mkdir /app")
        source.unpack("/app", node_modules)
        first, _ = await self.round_trip(engine, boxes, store, source)
        assert first.files_total > 4000
        source.sh("cd /app/node_modules; rm -r lodash; mv rxjs reactive; ln -s reactive rxjs; touch .bin")
        await self.round_trip(engine, boxes, store, source, first)

    async def test_a_hundred_thousand_tiny_files(self, engine: Engine, boxes: Boxes, store: LocalStore) -> None:
        source = await self.source(engine, boxes)
        source.python(TINY_FILES)
        first = await self.take(engine, source, 1)
        source.sh("cd /tiny; echo x >0/3/77; rm -r 5/55; mv 9/99 9/moved; chmod 600 4/44/*; ln 1/11/1 8/88/link")
        second, _ = await self.round_trip(engine, boxes, store, source, first)
        assert (first.files_total, second.files_total) == (100_000, 99_001)
