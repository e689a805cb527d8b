"""Building the sandbox image from Debian packages, for real."""

import hashlib
from pathlib import Path

import pytest

from deploy.setup import apt
from deploy.setup.sandbox import DEFAULT, build_from_packages


@pytest.mark.slow
@pytest.mark.skipif(not apt.can_install(), reason="needs root on Debian or Ubuntu, as CI has")
def test_the_same_packages_give_the_same_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else two hosts would hold the same image under two ids, and a snapshot of the one would not fit the other."""
    digests: list[str] = []
    for number, hostile in enumerate(("", "1")):
        # Settings of the builder's own Python must not reach the byte code in the image.
        monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", hostile)
        monkeypatch.setenv("HIBERNAUT_CACHE", str(tmp_path / str(number)))
        archive = tmp_path / f"{number}.tar"
        build_from_packages(archive, DEFAULT)
        with archive.open("rb") as data:
            digests.append(hashlib.file_digest(data, "sha256").hexdigest())
    assert digests[0] == digests[1]
