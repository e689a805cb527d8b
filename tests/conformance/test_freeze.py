"""A container is frozen and goes on, whatever else is asked of the daemon meanwhile."""

from __future__ import annotations

import contextlib
import threading
import time
from typing import TYPE_CHECKING

import pytest
from docker.errors import APIError

from activities.adapters.cgroup_freezer import freezer_of, let_go
from activities.adapters.docker_client import Daemon
from activities.adapters.docker_freeze import Freezer
from tests.support.boxes import Boxes
from tests.support.wedges import answers, commands, wedged

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def boxes() -> Iterator[Boxes]:
    made = Boxes()
    try:
        yield made
    finally:
        made.close()


def test_commands_that_start_meanwhile_do_not_wedge_it(boxes: Boxes) -> None:
    """The daemon waits for the first process of such a command, which is frozen, and holds the container meanwhile."""
    box = boxes.make()
    pid = int(box.daemon.api.inspect_container(box.id)["State"]["Pid"])
    file = freezer_of(pid)
    assert file is not None
    freezer = Freezer(box.daemon)
    stop = threading.Event()

    def start_commands() -> None:
        container = Daemon().client.containers.get(box.id)
        while not stop.is_set():
            with contextlib.suppress(APIError):
                container.exec_run(["true"])
            time.sleep(0.05)

    freezes: list[int] = []

    def freeze() -> None:
        for number in range(6):
            time.sleep(0.15)
            with freezer.frozen(box.id, pid):
                assert file.read_text().strip() != "THAWED"
                time.sleep(0.05)
            freezes.append(number)

    threads = [threading.Thread(target=start_commands, daemon=True) for _ in range(2)]
    threads.append(threading.Thread(target=freeze, daemon=True))
    for thread in threads:
        thread.start()
    threads[-1].join(60)
    stop.set()
    # Whatever came of it: nobody else is to be kept waiting by this container.
    let_go(file)
    assert len(freezes) == 6
    for thread in threads:
        thread.join(30)
    assert not box.is_paused
    assert box.sh("echo on") == "on\n"


def test_one_that_is_wedged_goes_on_all_the_same(boxes: Boxes) -> None:
    box = boxes.make()
    with wedged(box.id):
        thawing = threading.Thread(target=Freezer(box.daemon).thaw, args=(box.id,), daemon=True)
        thawing.start()
        thawing.join(20)
        assert not thawing.is_alive()
    assert not box.is_paused
    assert box.sh("echo on") == "on\n"


def test_one_that_is_frozen_for_long_leaves_the_daemon_able_to_answer(boxes: Boxes) -> None:
    box = boxes.make()
    file = freezer_of(int(box.daemon.api.inspect_container(box.id)["State"]["Pid"]))
    assert file is not None
    freezer = Freezer(box.daemon)
    for _ in range(3):
        with commands(box.id):
            freezer.freeze(box.id)
            freezer.settle(box.id, 20.0)
            assert file.read_text().strip() != "THAWED"
            assert answers(box.id, 2.0)
            assert box.is_paused
        freezer.thaw(box.id)
        assert not box.is_paused
    assert box.sh("echo on") == "on\n"


@pytest.mark.slow
def test_to_settle_takes_no_longer_than_it_may(boxes: Boxes) -> None:
    box = boxes.make()
    with wedged(box.id):
        Freezer(box.daemon).settle(box.id, 0.0)
        assert not answers(box.id, 0.5), "there was no time to let it go on"
