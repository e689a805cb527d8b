"""Which commands may run twice: no licence is wider than its pattern."""

import subprocess

import pytest
from hypothesis import given, settings, strategies as st

from workflows.safety import is_safe

OPERATORS = ";&|<>()$`\n"
PLAIN = "ab -./\"'\\=~#*?[]{}!\t"
WORD = PLAIN.replace(" ", "").replace("\t", "")


@pytest.mark.parametrize(
    ("pattern", "command"),
    [
        ("ls", "ls"),
        ("ls", "  ls \n"),
        ("ls *", "ls -l /tmp"),
        ("*", "make -j 4"),
        ("pip install *", "pip install 'x==1.0'"),
        ("git * status", "git -C /x status"),
        ("make && make install", "make && make install"),
        ("cat * > out", "cat a b > out"),
        ("a.c", "a.c"),
    ],
)
def test_a_command_that_its_pattern_allows(pattern: str, command: str) -> None:
    assert is_safe(command, ["never", pattern])


@pytest.mark.parametrize(
    "command",
    [
        "ls x; rm -rf y",
        "ls x && rm y",
        "ls x || rm y",
        "ls x | sh",
        "ls x & rm y",
        "ls $(rm y)",
        "ls `rm y`",
        "ls ${IFS}",
        "ls > y",
        "ls < y",
        "ls <(rm y)",
        "ls x\nrm y",
        "ls x\n\nrm y\n",
        "(ls x)",
        "lsx",
        "Ls x",
        "rm y; ls x",
        "",
    ],
)
def test_what_hides_behind_a_safe_command_is_not_safe(command: str) -> None:
    assert not is_safe(command, ["ls *"])


def test_nothing_is_safe_without_a_pattern() -> None:
    assert not is_safe("ls", [])


def test_a_pattern_is_no_regular_expression() -> None:
    assert not is_safe("abc", ["a.c"])
    assert not is_safe("aaa", ["a+"])
    assert not is_safe("a", ["[a]"])


@given(pattern=st.text(PLAIN, max_size=12), command=st.text(PLAIN + OPERATORS, max_size=24))
def test_no_operator_passes_through_a_star(pattern: str, command: str) -> None:
    if is_safe(command, [pattern]):
        assert not set(command.strip()) & set(OPERATORS)


@given(pattern=st.text("*a;", max_size=8), command=st.text("a;", max_size=12))
def test_operators_are_as_many_as_the_pattern_spells(pattern: str, command: str) -> None:
    if is_safe(command, [pattern]):
        assert command.count(";") == pattern.count(";")


def _matches(pattern: str, command: str) -> bool:
    """What `is_safe` means, the slow and plain way."""
    if not pattern:
        return not command
    if pattern[0] != "*":
        return command[:1] == pattern[0] and _matches(pattern[1:], command[1:])
    return _matches(pattern[1:], command) or (
        bool(command) and command[0] not in OPERATORS and _matches(pattern, command[1:])
    )


@settings(max_examples=500)
@given(pattern=st.text("*ab;", max_size=7), command=st.text("ab;", max_size=9))
def test_it_is_the_match_one_would_write_by_hand(pattern: str, command: str) -> None:
    assert is_safe(command, [pattern]) is _matches(pattern, command)


@given(pieces=st.lists(st.text(WORD, max_size=6), min_size=2, max_size=4), fills=st.data())
def test_what_a_pattern_spells_out_is_safe(pieces: list[str], fills: st.DataObject) -> None:
    pieces = [piece.replace("*", "") for piece in pieces]
    gaps = [fills.draw(st.text(WORD, max_size=6)) for _ in pieces[1:]]
    command = pieces[0] + "".join(gap + piece for gap, piece in zip(gaps, pieces[1:], strict=True))
    assert is_safe(command, ["*".join(pieces)])


@settings(max_examples=60, deadline=None)
@given(tail=st.text(PLAIN + OPERATORS, max_size=16))
def test_a_shell_runs_no_second_command_for_what_is_safe(tail: str) -> None:
    """The shell itself is asked: what follows `echo` is its arguments, never a program of its own."""
    command = f"echo {tail}"
    if is_safe(command, ["echo *"]):
        argv = ["/bin/sh", "-fxc", command]
        traced = subprocess.run(argv, capture_output=True, text=True, check=False, env={"PATH": "/none"}, timeout=20)
        programs = [line for line in traced.stderr.splitlines() if line.startswith("+ ")]
        assert all(program.startswith("+ echo") for program in programs)
        assert len(programs) <= 1


def test_a_hostile_command_does_not_hold_up_the_workflow() -> None:
    """A workflow task that takes two seconds is taken for a deadlock; a match that goes back would take years."""
    assert not is_safe("cp" + " " * 1_990 + ";", ["cp * * * * * * * *"])
    assert not is_safe("a" * 1_990 + ";", ["*a*a*a*a*a*a*b"])
