"""Patterns of paths that no snapshot holds."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings, strategies as st
from pydantic import ValidationError

from activities.snapshots.entries import ROOT
from activities.snapshots.exclusion import Exclusion
from hibernaut.models import SnapshotSpec


@pytest.mark.parametrize(
    ("pattern", "inside", "outside"),
    [
        ("/tmp", ["tmp", "tmp/a", "tmp/a/b"], ["tmpx", "var/tmp", "xtmp", "TMP", "tm"]),
        ("/home/*/.cache", ["home/a/.cache", "home/a/.cache/pip/x"], ["home/.cache", "home/a/b/.cache", "home/a"]),
        ("/a*b?c", ["aXbYc", "abbbc", "ab/c".replace("/", "Z")], ["abc", "aXbYcZ", "aX/bYc", "a/bc"]),
        ("/**/node_modules", ["node_modules", "a/node_modules/x", "a/b/c/node_modules"], ["a/node_modulesx", "node"]),
        ("/srv/**/x", ["srv/x", "srv/a/b/x/y"], ["x", "srv", "srv/xx", "a/srv/x"]),
        ("/var/cache/**", ["var/cache", "var/cache/apt/x"], ["var", "var/cachex"]),
        ("/var/*", ["var/a", "var/a/b"], ["var", "a"]),
        ("/**/*.pyc", ["a.pyc", "b/c/d.pyc", "b/.pyc"], ["a.pycx", "pyc", "b/apyc"]),
        ("/a/**/b/**/c", ["a/b/c", "a/x/b/y/z/c", "a/b/b/c/c"], ["a/c", "b/c", "a/c/b"]),
        ("/[a]/$x^.+", ["[a]/$x^.+"], ["a/$x^.+", "[a]/$x^Z+"]),
        ("/na\u00efve?", ["na\u00efve1", "na\u00efve\u00e9"], ["na\u00efve", "na\u00efve12"]),
        ("/new\nline*", ["new\nline", "new\nline\nx"], ["new"]),
    ],
)
def test_what_a_pattern_stands_for(pattern: str, inside: list[str], outside: list[str]) -> None:
    exclusion = Exclusion(SnapshotSpec(exclude=(pattern,)).exclude)
    for path in inside:
        assert exclusion.leaves_out(path.encode(), directory=False), path
        assert exclusion.hides_below(path.encode()), path
        assert exclusion.leaves_out(path.encode() + b"/below", directory=True), path
    for path in outside:
        assert not exclusion.leaves_out(path.encode(), directory=False), path
        assert not exclusion.leaves_out(path.encode(), directory=True), path


def test_a_directory_that_matches_is_kept_and_what_is_below_is_not() -> None:
    exclusion = Exclusion(("/tmp", "/srv/*"))
    assert not exclusion.leaves_out(b"tmp", directory=True)
    assert exclusion.leaves_out(b"tmp", directory=False)
    assert exclusion.leaves_out(b"tmp/a", directory=True)
    assert not exclusion.leaves_out(b"srv", directory=False)
    assert not exclusion.leaves_out(b"srv/a", directory=True)
    assert exclusion.leaves_out(b"srv/a", directory=False)
    assert exclusion.leaves_out(b"srv/a/b", directory=True)
    assert not exclusion.leaves_out(ROOT, directory=True)
    assert not exclusion.hides_below(ROOT)
    assert exclusion.reaches_below(ROOT)
    assert exclusion.reaches_below(b"srv")
    assert not exclusion.reaches_below(b"home")
    assert not exclusion.reaches_below(b"tmpx")
    assert not Exclusion(()).reaches_below(ROOT)


def test_names_that_are_not_utf8_match_wildcards() -> None:
    exclusion = Exclusion(("/a?b", "/x/*"))
    assert exclusion.leaves_out(b"a\xffb", directory=False)
    assert exclusion.leaves_out(b"x/\xff\xfe", directory=False)


def test_nothing_is_left_out_without_patterns() -> None:
    exclusion = Exclusion(())
    assert not exclusion
    assert not exclusion.leaves_out(b"a/b", directory=False)
    assert not exclusion.hides_below(b"a/b")


names = st.sampled_from(["a", "b", "ab", "ba", "aab"])
pieces = st.sampled_from(["a", "b", "*", "**", "a*", "*b", "?", "a?b", "*a*b*"])
patterns = st.lists(pieces, min_size=1, max_size=5).map(lambda found: "/" + "/".join(found))


def _naive(pattern: str) -> re.Pattern[str]:
    """The same by a regular expression over whole paths, which a hostile path could keep busy for ever."""
    text = ""
    for name in pattern[1:].split("/"):
        if name == "**":
            text += "(?:/[^/]+)*"
        else:
            text += "/" + "".join({"*": "[^/]*", "?": "[^/]"}.get(char, re.escape(char)) for char in name)
    return re.compile(text + "(?:/.*)?")


@settings(max_examples=400, deadline=None)
@given(st.lists(patterns, min_size=1, max_size=4), st.lists(st.lists(names, min_size=1, max_size=6), max_size=8))
def test_it_agrees_with_the_obvious_way(found: list[str], paths: list[list[str]]) -> None:
    exclusion = Exclusion(found)
    for path in ("/".join(parts) for parts in paths):
        expected = any(_naive(pattern).fullmatch("/" + path) for pattern in found)
        assert exclusion.leaves_out(path.encode(), directory=False) is expected, (found, path)
        assert exclusion.hides_below(path.encode()) is expected, (found, path)
        above = path.rpartition("/")[0].encode() or ROOT
        assert exclusion.reaches_below(above) or not expected


def test_hostile_paths_take_no_longer() -> None:
    exclusion = Exclusion(["/" + "**/a/" * 40 + "end", "/**/" + "*a" * 100 + "b"])
    deep, long = b"/".join([b"a"] * 2000), b"a" * 255
    # Going back would take ages, and the test's time limit would end it.
    for number in range(20):
        assert not exclusion.leaves_out(deep + b"/%d" % number, directory=False)
        assert not exclusion.leaves_out(b"%d/" % number + long, directory=False)
    for number in range(20_000):
        exclusion.leaves_out(b"%d/a/b" % number, directory=False)
    assert len(exclusion._directories) <= 4096
    assert len(exclusion._automaton._nodes) <= 4096


def test_too_many_patterns() -> None:
    SnapshotSpec(exclude=("/" + "x" * 99,) * 80)
    with pytest.raises(ValidationError, match="has 8100 characters in all and the limit is 8000"):
        SnapshotSpec(exclude=("/" + "x" * 99,) * 81)
    with pytest.raises(ValidationError, match="at most 200"):
        SnapshotSpec(exclude=("/x",) * 201)


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        ("tmp", "must be an absolute path"),
        ("*.pyc", "must be an absolute path"),
        ("/", "the whole file system"),
        ("/**", "the whole file system"),
        ("/**/**", "the whole file system"),
        ("/tmp/", "must not end with a slash"),
        ("//tmp", "two in a row"),
        ("/a/../b", "must not have the names . and .."),
        ("/./a", "must not have the names . and .."),
        ("/a\0b", "NUL"),
        ("/a**", "must have ** alone"),
        ("/***", "must have ** alone"),
        ("/" + "x" * 256, "more than 255 bytes"),
    ],
)
def test_patterns_that_mean_nothing(pattern: str, said: str) -> None:
    with pytest.raises(ValidationError, match=re.escape(said)):
        SnapshotSpec(exclude=("/fine", pattern))
