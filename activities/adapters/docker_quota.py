"""Quotas of disk that the Docker daemon itself gives a container: on xfs with project quotas, on btrfs and zfs."""

from typing import Any

from docker.errors import APIError

from activities.adapters.docker_client import Daemon
from hibernaut.models import SandboxSpec

_WITH_QUOTAS = frozenset({"btrfs", "zfs", "windowsfilter"})


class DiskQuota:
    """Whether one daemon has quotas: asked once, believed until it refuses one."""

    def __init__(self, daemon: Daemon) -> None:
        """Ask nothing yet."""
        self._daemon = daemon
        self._offered: bool | None = None

    def options(self, spec: SandboxSpec) -> dict[str, Any]:
        """The arguments of `create_host_config` for the spec's disk limit; none where the daemon keeps none."""
        if spec.disk_mb is None or not self._is_offered():
            return {}
        return {"storage_opt": {"size": f"{spec.disk_mb}M"}}

    def refused(self, error: APIError) -> bool:
        """Whether a container was refused for its quota; from now on none is asked for."""
        told = str(error.explanation)
        if not self._offered or ("storage-opt" not in told and "quota" not in told.lower()):
            return False
        self._offered = False
        return True

    def _is_offered(self) -> bool:
        if self._offered is None:
            self._offered = may_have_quotas(self._daemon.api.info())
        return self._offered


def may_have_quotas(info: dict[str, Any]) -> bool:
    """Whether the daemon's storage can have quotas, as far as the daemon says: xfs may be mounted without them."""
    driver = str(info.get("Driver") or "")
    status: list[list[str]] = info.get("DriverStatus") or []
    return driver in _WITH_QUOTAS or (driver == "overlay2" and ["Backing Filesystem", "xfs"] in status)
