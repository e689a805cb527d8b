"""Set-up of programs that benchmarks compare with: only what is missing is installed, and said when it cannot be."""

from pathlib import Path

import pytest

from deploy.setup import apt, peers
from deploy.setup.console import SetupError


@pytest.fixture
def bin_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for program in ("restic", "zstd", "rsync"):
        (tmp_path / program).write_text("#!/bin/sh\n")
        (tmp_path / program).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


def test_only_missing_package_is_named_where_nothing_may_be_installed(
    bin_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert bin_folder.is_dir()
    monkeypatch.setattr(apt, "can_install", lambda: False)
    with pytest.raises(SetupError, match=r"Missing package\(s\): borgbackup\."):
        peers.ensure_peers()


def test_nothing_is_installed_when_all_are_there(
    bin_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (bin_folder / "borg").symlink_to(bin_folder / "restic")
    monkeypatch.setattr(apt, "can_install", lambda: False)
    peers.ensure_peers()
    assert "restic, borg, zstd, rsync are installed" in capsys.readouterr().out
