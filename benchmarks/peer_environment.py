"""Virtual environments of peers, whose dependencies would not go beside ours; made once from hashed files."""

import hashlib
import sys
from pathlib import Path

from deploy.setup.console import ROOT, cache_dir, run

PEERS = ROOT / "requirements" / "peers.txt"
_MADE = ".complete"


def peer_python() -> Path:
    """The Python of an environment that holds what `requirements/peers.txt` names.

    Raises:
        SetupError: It cannot be made; the message says why.
    """
    wanted = hashlib.sha256(PEERS.read_bytes() + sys.version.encode()).hexdigest()[:16]
    venv = cache_dir() / "peers" / wanted
    python = venv / "bin" / "python"
    if not (venv / _MADE).exists():
        run([sys.executable, "-m", "venv", "--clear", str(venv)], doing="making the peers' virtual environment")
        pip = [str(python), "-m", "pip", "install", "--disable-pip-version-check"]
        run([*pip, "--require-hashes", "--requirement", str(PEERS)], doing="installing the peers' locked packages")
        (venv / _MADE).touch()
    return python
