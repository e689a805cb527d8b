"""What two looks at a container's tasks prove, and everything that they must not be taken to prove."""

from __future__ import annotations

import pytest

from activities.adapters.api_proof import Look, parse_look

SHELL = 20


def _task(
    pid: int, name: str, used: str, *, state: str = "S", parent: int = 0, tid: int = 0, started: int = 500
) -> str:
    rest = " ".join(["0"] * 17)
    return f"{pid}/task/{tid or pid} {used} {tid or pid} ({name}) {state} {parent} {rest} {started} 0 0\n"


def _look(last: int, *tasks: str, own: str = "900 5 7", keepers: str = "7", uptime: str = "1234.56") -> Look:
    text = f"look {SHELL} {last} {uptime} {keepers}\n" + _task(SHELL, "sh", own, state="R") + "".join(tasks)
    found = parse_look(text.encode())
    assert found is not None
    return found


SERVER = _task(9, "server", "10 20 3")
BEFORE = _look(40, SERVER)


def test_nothing_ran() -> None:
    assert not _look(40, SERVER, own="950 5 8").ran_since(BEFORE, [])
    assert not _look(43, SERVER, own="950 5 8").ran_since(BEFORE, [41, 42, 43])


@pytest.mark.parametrize(
    ("now", "births"),
    [
        (_look(41, SERVER, own="950 5 8"), []),  # somebody was born, and is gone
        (_look(41, SERVER, _task(41, "sh", "1 1 1"), own="950 5 8"), []),
        (_look(40, SERVER, _task(41, "sh", "1 1 1"), own="950 5 8"), []),  # born right after the cursor was read
        (_look(44, SERVER, own="950 5 8"), [41, 42, 43]),  # after this shell's commands
        (_look(44, SERVER, own="950 5 8"), [42, 43, 44]),  # before them
        (_look(44, SERVER, own="950 5 8"), [41, 43, 44]),  # between them
        (_look(43, SERVER, own="950 5 8"), [41, 42]),
        (_look(40, SERVER, own="950 5 8"), [41]),
        (_look(39, SERVER, own="950 5 8"), []),
        (_look(40, own="950 5 8"), []),  # it ended, hence ran
        (_look(40, _task(9, "server", "11 20 3"), own="950 5 8"), []),
        (_look(40, _task(9, "server", "10 21 3"), own="950 5 8"), []),  # it waits for a CPU
        (_look(40, _task(9, "server", "10 20 4"), own="950 5 8"), []),  # it has just been given one
        (_look(40, _task(9, "server", "10 20 3", state="R"), own="950 5 8"), []),
        (_look(40, _task(9, "server", "10 20 3", started=501), own="950 5 8"), []),
        (_look(40, SERVER, _task(9, "server", "1 1 1", tid=10), own="950 5 8"), []),  # a thread of it
        (_look(40, SERVER), []),  # a kernel that counts nothing
    ],
)  # fmt: skip
def test_something_may_have_run(now: Look, births: list[int]) -> None:
    assert now.ran_since(BEFORE, births)


def test_what_was_running_all_the_time_is_seen() -> None:
    # Its time on the CPU is written down at the next tick.
    before = _look(40, _task(9, "server", "10 20 3", state="R"))
    assert _look(40, SERVER, own="950 5 8").ran_since(before, [])


def test_another_shell_proves_nothing() -> None:
    text = f"look 21 40 1234.99\n{_task(21, 'sh', '1 1 1')}{SERVER}"
    other = parse_look(text.encode())
    assert other is not None
    assert other.ran_since(BEFORE, [])


def test_what_keeps_a_container_alive_may_run() -> None:
    idle = (_task(1, "docker-init", "5 5 5"), _task(7, "tail", "6 6 6", parent=1))
    later = (_task(1, "docker-init", "6 5 6"), _task(7, "tail", "7 6 7", parent=1, state="R"))
    assert not _look(40, *later, own="950 5 8").ran_since(_look(40, *idle), [])
    # Nobody else may, whatever its name.
    for pid, name in ((8, "tail"), (2, "docker-init"), (7, "server")):
        before, now = _task(pid, name, "5 5 5"), _task(pid, name, "6 5 6")
        assert _look(40, now, own="950 5 8").ran_since(_look(40, before), [])
    before, now = _task(1, "server", "5 5 5"), _task(1, "server", "6 5 6")
    assert _look(40, now, own="950 5 8").ran_since(_look(40, before), [])


def test_a_name_may_hold_anything() -> None:
    for name in ("a b", "x) R 1 (", ") S 0", "(", "\udcff\\n"):
        text = f"look 20 40 1.00\n{_task(9, name, '1 2 3', parent=4)}"
        look = parse_look(text.encode(errors="surrogateescape"))
        assert look is not None
        task = look.tasks[b"9/task/9"]
        assert (task.name, task.state, task.parent) == (name.encode(errors="surrogateescape"), b"S", 4)


@pytest.mark.parametrize(
    "text",
    ["", "look", "look 1 2", "look x 2 3.00", "look 1 0 3.00", "loop 1 2 3.00", "look 1 2 3.00\nnonsense",
     "look 1 2 3.00\n9/task/9 1 2 3 9 (x) S", "look 1 2 3.00\n9/task/9 1 2 x 9 (x) S 0 " + "0 " * 20],
)  # fmt: skip
def test_what_is_no_look(text: str) -> None:
    assert parse_look(text.encode()) is None


def test_a_kernel_without_counters_proves_nothing() -> None:
    look = parse_look(b"look 20 1 1.00\n")
    assert look is not None
    assert look.ran_since(look, [])
