"""The comparison itself: it sees whatever may differ between two containers, or every test that rests on it is void."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.boxes import Boxes
from tests.support.rsync import differences

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.boxes import Box

BUILD = r"""
rm -rf /same; mkdir -p /same/dir/below /same/empty; cd /same; printf 'content' >file; ln file dir/linked; printf 1 >one
printf 1 >two; ln -s file link; mkfifo pipe; mknod device c 1 3; printf x >ping; printf late >late
printf alike >alike-a; printf alike >alike-b
python3 - <<END
import os, struct
os.setxattr("file", "user.tag", b"value"); os.setxattr("dir", "user.tag", b"value")
os.setxattr("ping", "security.capability", struct.pack("<IIIII", 0x02000001, 1 << 13, 0, 0, 0))
acl = [(1, 6, 0xFFFFFFFF), (2, 4, 1234), (4, 4, 0xFFFFFFFF), (16, 4, 0xFFFFFFFF), (32, 0, 0xFFFFFFFF)]
os.setxattr("one", "system.posix_acl_access", struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *e) for e in acl))
END
find . -depth -exec touch -hd '2020-02-02 02:02:02.123456789' {} +
"""

CHANGES = {
    "nothing but a time of access": ("cat file >/tmp/seen", None),
    "a byte": ("touch -r file /tmp/t; printf 'cOntent' >file; touch -r /tmp/t file", "file"),
    "a byte more": ("touch -r file /tmp/t; printf x >>file; touch -r /tmp/t file", "file"),
    "a mode": ("chmod 0600 late", "late"),
    "a set-id bit": ("chmod u+s late", "late"),
    "a mode of a directory": ("chmod 0700 empty", "empty"),
    "an owner": ("chown 5 late", "late"),
    "a group": ("chgrp 5 late", "late"),
    "an owner of a link": ("chown -h 5 link", "link"),
    "a time by a nanosecond": ("touch -d '2020-02-02 02:02:02.123456788' late", "late"),
    "a time of a directory": ("touch -d '2020-02-02 02:02:02.123456788' dir/below", "dir/below"),
    "a time of a link": ("touch -hd '2020-02-02 02:02:02.123456788' link", "link"),
    "a time of a pipe": ("touch -d '2020-02-02 02:02:02.123456788' pipe", "pipe"),
    "the value of an attribute": ("python3 -c \"import os; os.setxattr('file', 'user.tag', b'Value')\"", "file"),
    "one attribute more": ("python3 -c \"import os; os.setxattr('file', 'user.more', b'')\"", "file"),
    "one attribute less": ("python3 -c \"import os; os.removexattr('dir', 'user.tag')\"", "dir"),
    "a capability": ("python3 -c \"import os; os.removexattr('ping', 'security.capability')\"", "ping"),
    "an access list": ("python3 -c \"import os; os.removexattr('one', 'system.posix_acl_access')\"", "one"),
    "a hard link less": ("cp -a file t; mv t dir/linked; touch -r late . dir", "file"),
    "a hard link more": ("ln -f alike-a alike-b; touch -r late .", "alike-"),
    "a target": ("ln -sfn fil link; touch -hr late link .", "link"),
    "a device": ("rm device; mknod device c 1 5; touch -r late device .", "device"),
    "a kind": ("rm pipe; : >pipe; touch -r late pipe .", "pipe"),
    "one file less": ("rm two; touch -r late .", "two"),
    "one file more": (": >dir/below/new; touch -r late dir/below", "dir/below/new"),
    "one directory less": ("rmdir empty; touch -r late .", "empty"),
}  # fmt: skip


@pytest.fixture(scope="module")
def pair() -> Iterator[tuple[Box, Box]]:
    boxes = Boxes()
    try:
        yield boxes.make(), boxes.make()
    finally:
        boxes.close()


@pytest.mark.parametrize("change", CHANGES)
def test_whatever_differs_is_seen(pair: tuple[Box, Box], change: str) -> None:
    one, other = pair
    for box in pair:
        box.sh(BUILD)
    assert differences(one.root / "same", other.root / "same") == []
    script, path = CHANGES[change]
    other.sh(f"cd /same; {script}")
    found = differences(one.root / "same", other.root / "same")
    assert bool(found) is (path is not None)
    assert path is None or any(path in line for line in found), found


def test_nothing_is_left_out_but_what_is_named(pair: tuple[Box, Box]) -> None:
    one, other = pair
    for box in pair:
        box.sh(BUILD)
    other.sh("cd /same; : >dir/below/new; rm two; chmod 600 one; touch -r late . dir/below")
    assert differences(one.root / "same", other.root / "same", ["/dir/below", "/two", "/one"]) == []
    assert differences(one.root / "same", other.root / "same", ["/below", "/two", "/one"]) != []
