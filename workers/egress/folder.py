"""Where the egress proxy of a host and its workers meet, and which build of it a worker wants."""

import hashlib
from pathlib import Path

from workers.settings import CHECKOUT, HostSettings

_SOURCES = ("activities/egress", "activities/adapters", "activities/ports", "hibernaut/models", "workers/egress")
_PARTS = ("egress", "network", "secrets")


def egress_folder(settings: HostSettings) -> Path:
    """`hosts/<host id>/egress` in the home."""
    return settings.home.absolute() / "hosts" / settings.host_id / "egress"


def release(settings: HostSettings) -> str:
    """Differs when what the proxy is made of, or what it is told by its environment, does."""
    digest = hashlib.sha256(",".join(map(str, settings.egress_reachable)).encode())
    if settings.egress_ca_file is not None:
        digest.update(settings.egress_ca_file.read_bytes() if settings.egress_ca_file.is_file() else b"missing")
    for folder in _SOURCES:
        for path in sorted((CHECKOUT / folder).glob("*.py")):
            if folder.endswith("egress") or path.stem.startswith(_PARTS):
                digest.update(path.read_bytes())
    return digest.hexdigest()[:16]
