"""Sees to it that sandboxes that may have a way out have one: the proxy is started when it is needed, and again."""

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from activities.adapters.docker_client import Daemon
from activities.adapters.egress_desk import EgressDesk
from activities.beside import beside
from activities.ports.secrets import SecretSource
from workers import detached
from workers.egress.folder import egress_folder, release
from workers.settings import HostSettings

INTERVAL_S = 2.0
"""Seconds between two looks; while no sandbox has an allowlist a look is at an empty folder."""

_log = logging.getLogger(__name__)


def desk(settings: HostSettings, daemon: Daemon, secrets: SecretSource | None = None) -> EgressDesk:
    """What opens and closes the ways out on this host, with the values of secrets."""
    return EgressDesk(egress_folder(settings), daemon, lambda: launch(settings), release(settings), secrets)


def launch(settings: HostSettings) -> None:
    """Start a proxy that belongs to nobody; it ends at once when there is one."""
    extra = {"HIBERNAUT_EGRESS_REACHABLE": ",".join(map(str, settings.egress_reachable))}
    extra["HIBERNAUT_EGRESS_CA_FILE"] = str(settings.egress_ca_file.absolute()) if settings.egress_ca_file else ""
    process = detached.start(
        settings,
        egress_folder(settings) / "proxy.log",
        "workers.egress",
        extra={name: value for name, value in extra.items() if value},
    )
    _log.info("started an egress proxy, pid %d", process.pid)


@asynccontextmanager
async def kept(desk: EgressDesk) -> AsyncGenerator[None]:
    """Mend what went wrong with the ways out, now and until the block ends; they stay when it ends."""
    async with beside(_keep(desk)):
        yield


async def _keep(desk: EgressDesk) -> None:
    told = ""
    while True:
        try:
            await asyncio.to_thread(desk.reconcile)
            told = ""
        except Exception as error:  # noqa: BLE001  # whatever it is, the next look may go well, and nobody else looks
            if (said := str(error) or type(error).__name__) != told:
                told = said
                _log.warning("the sandboxes' ways out cannot be looked after: %s", told)
        await asyncio.sleep(INTERVAL_S)
