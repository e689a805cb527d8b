"""rsync: used as it is, else installed, else a clear stop."""

from pathlib import Path

import pytest

from deploy.setup import apt
from deploy.setup.console import SetupError
from deploy.setup.rsync import ensure_rsync


def test_one_that_is_there_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "rsync"
    program.touch(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(apt, "can_install", lambda: False)
    ensure_rsync()


def test_without_root_a_missing_one_is_a_clear_stop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(apt, "can_install", lambda: False)
    with pytest.raises(SetupError, match=r"compared with rsync.*apt-get install rsync"):
        ensure_rsync()


def test_it_is_installed_with_apt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = tmp_path / "done"
    program = tmp_path / "apt-get"
    program.write_text(f'#!/bin/sh\necho "$@" >>{done}\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("HIBERNAUT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(apt, "can_install", lambda: True)
    apt.update.cache_clear()
    try:
        ensure_rsync()
    finally:
        apt.update.cache_clear()
    assert done.read_text().splitlines()[-1].endswith("--no-install-recommends rsync")
