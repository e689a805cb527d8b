"""What a container's own `find` tells, and what follows from it."""

from __future__ import annotations

import pytest

from activities.adapters.api_listing import Listing, Seen, differences, parse_listing
from activities.errors import CaptureError
from activities.snapshots.entries import ROOT

MOUNTS = (
    b"1 0 0:1 / / rw - overlay overlay rw\n2 1 0:2 / /proc rw - proc proc rw\n3 1 0:3 / /etc/hosts rw - ext4 x rw\n"
)


def _record(letter: str, path: bytes, mtime: bytes = b"5.0000000000") -> bytes:
    return (
        b"\0".join([letter.encode(), b"755", b"0", b"0", b"3", mtime, b"6.1234567890", b"9", b"1", b"", path]) + b"\0"
    )


def _raw(*records: bytes) -> bytes:
    return MOUNTS + b"\0" + b"1795382221.123456789\n\0" + _record("d", b"") + b"".join(records)


def _listing(*paths: tuple[str, bytes]) -> Listing:
    return parse_listing(_raw(*(_record(letter, path) for letter, path in paths)))


def test_a_listing_is_read() -> None:
    found = parse_listing(
        _raw(
            _record("f", b"a\nb\xff", b"-315619200.2500000000"),
            _record("d", b"proc"),
            _record("f", b"etc/hosts"),
            _record("s", b"socket"),
            _record("f", b"etc/real"),
        )
    )
    assert set(found.paths) == {ROOT, b"a\nb\xff", b"etc/real"}
    assert found.paths[b"a\nb\xff"] == Seen(b"f", 0o755, 0, 0, 3, -315619199_750000000, 6_123456789, 9, 1, b"")
    assert (found.skipped, found.taken_ns) == (1, 1795382221_123456789)


@pytest.mark.parametrize(
    "raw",
    [b"", b"x\0y\0z\0", MOUNTS, _raw()[:-1], _raw() + b"f\0", _raw(_record("f", b"../x")), _raw(_record("f", b"/x")),
     MOUNTS + b"\0" + b"1.0\0" + _record("f", b"a"), _raw(_record("f", b"a", b"x")), b"\0\0" + _record("d", b"")],
)  # fmt: skip
def test_listings_that_cannot_be_used(raw: bytes) -> None:
    with pytest.raises(CaptureError):
        parse_listing(raw)


def test_differences_are_told_as_an_overlay_would() -> None:
    base = _listing(("d", b"d"), ("f", b"d/same"), ("f", b"d/gone"), ("d", b"t"), ("d", b"t/u"), ("f", b"t/u/v"),
                    ("d", b"w"), ("f", b"w/x"), ("d", b"q"), ("d", b"q/r"), ("f", b"q/r/s"))  # fmt: skip
    now = _listing(("d", b"d"), ("f", b"d/same"), ("d", b"t"), ("f", b"w"), ("d", b"new"), ("f", b"new/f"),
                   ("d", b"q"), ("d", b"q/r"), ("f", b"q/r/s"))  # fmt: skip
    now.paths[b"q/r/s"] = now.paths[b"q/r/s"]._replace(ctime_ns=7)
    found = differences(base, now)
    assert found.deleted == [b"d/gone", b"t/u"]
    assert found.present == sorted([ROOT, b"d", b"t", b"w", b"new", b"new/f", b"q", b"q/r", b"q/r/s"])
    same = differences(base, base)
    assert (same.present, same.deleted) == ([ROOT], [])
