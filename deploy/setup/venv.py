"""The virtual environment: the locked uv by pip, every other locked package by uv, then our own, editable."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import sys
import tempfile
from pathlib import Path

from deploy.setup import apt
from deploy.setup.console import ROOT, SetupError, probe, run, say

VENV = ROOT / ".venv"
LOCK = ROOT / "requirements" / "lock.txt"
_PYTHON = VENV / "bin" / "python"
_UV = VENV / "bin" / "uv"
_STAMP = VENV / ".hibernaut-setup"


def ensure_venv() -> None:
    """Make `.venv` hold exactly what the lock file names, and our own package, editable.

    Raises:
        SetupError: The environment cannot be created or a package cannot be had.
    """
    if not LOCK.exists():
        msg = f"{LOCK} is missing: this is not a whole checkout (`git status` shows what is gone)."
        raise SetupError(msg)
    wanted = _fingerprint()
    if _STAMP.exists() and _STAMP.read_text(encoding="utf-8") == wanted and _works():
        say("virtual environment: up to date")
        return
    if not _works():
        _create()
    if not _UV.exists():
        _install_uv()
    env = {"UV_NO_PROGRESS": "1", "VIRTUAL_ENV": str(VENV), **_index_settings()}
    target = ["--python", str(_PYTHON)]
    run(
        [str(_UV), "pip", "sync", *target, "--require-hashes", str(LOCK)],
        doing="installing the locked Python packages",
        env=env,
    )
    run(
        [str(_UV), "pip", "install", *target, "--no-deps", "--no-build-isolation", "--editable", str(ROOT)],
        doing="installing hibernaut itself, editable",
        env=env,
    )
    _STAMP.write_text(wanted, encoding="utf-8")
    say(f"virtual environment: ready in {VENV}")


def uv_requirement(lock: str) -> str:
    """The lock file's entry for uv: its pinned version with the hashes.

    Raises:
        SetupError: The lock file names no uv.
    """
    entry = re.search(r"^uv==(?:[^\n]*\\\n)*[^\n]*", lock, flags=re.MULTILINE)
    if entry is None:
        msg = f"{LOCK} pins no uv: write it anew with `make lock`."
        raise SetupError(msg)
    return entry.group() + "\n"


def _fingerprint() -> str:
    digest = hashlib.sha256()
    for path in (LOCK, ROOT / "pyproject.toml"):
        digest.update(path.read_bytes())
    digest.update(str(ROOT).encode())
    return digest.hexdigest()


def _works() -> bool:
    check = "import sys; sys.exit(sys.version_info < (3, 11) or sys.prefix == sys.base_prefix)"
    return _PYTHON.exists() and probe([str(_PYTHON), "-c", check]).returncode == 0


def _create() -> None:
    if VENV.exists():
        say(f"{VENV} does not work on this machine: making it anew")
        shutil.rmtree(VENV)
    if probe([sys.executable, "-c", "import ensurepip, venv"]).returncode != 0:
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        why = f"Python {version} at {sys.executable} comes without the venv module's ensurepip"
        apt.install([f"python{version}-venv"], why=why)
    version = sys.version.split()[0]
    run([sys.executable, "-m", "venv", str(VENV)], doing=f"making the virtual environment with Python {version}")


def _install_uv() -> None:
    with tempfile.TemporaryDirectory() as folder:
        wanted = Path(folder) / "uv.txt"
        wanted.write_text(uv_requirement(LOCK.read_text(encoding="utf-8")), encoding="utf-8")
        run(
            [
                str(_PYTHON),
                "-m",
                "pip",
                "install",
                "--disable-pip-version-check",
                "--no-deps",
                "--require-hashes",
                "--requirement",
                str(wanted),
            ],
            doing="installing the pinned uv",
        )


def _index_settings() -> dict[str, str]:
    """What pip is told about its index, for uv, which does not read pip's settings."""
    if any(name in os.environ for name in ("UV_DEFAULT_INDEX", "UV_INDEX_URL", "UV_INDEX")):
        return {}
    configured = probe([sys.executable, "-m", "pip", "config", "get", "global.index-url"]).stdout.strip()
    index = os.environ.get("PIP_INDEX_URL") or configured
    return {"UV_DEFAULT_INDEX": index} if index else {}
