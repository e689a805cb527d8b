"""`python -m workers.gateway`: serve until SIGINT or SIGTERM."""

import asyncio
import logging
import os
import signal
import socket
import sys

import uvicorn

from activities.errors import HibernautActivityError
from hibernaut._connect import connect
from hibernaut.errors import HibernautError, InvalidSettings
from workers import wiring
from workers.agents import namespace_id
from workers.gateway.app import Gateway
from workers.settings import Listen, Settings

log = logging.getLogger("workers.gateway")

DRAIN_SECONDS = 3
"""How long a stop waits for answers under way; those who follow events never end by themselves."""


async def _serve() -> None:
    settings = Settings.load()
    if settings.gateway_token is None:
        raise InvalidSettings(
            "The gateway has no token.",
            hint="Set HIBERNAUT_GATEWAY_TOKEN, or HIBERNAUT_GATEWAY_TOKEN_FILE to its file.",
        )
    listen = settings.gateway_listen
    if not listen.loopback:
        log.warning("listening on %s: put TLS in front, the token travels in the clear", listen.host)
    temporal = await connect(settings.connection)
    store = wiring.open_store(settings)
    audit = wiring.audit_store(settings)
    daemon = wiring.docker(settings)
    sandboxes = wiring.sandboxes(daemon, settings.host_id, await namespace_id(temporal))
    for number in (signal.SIGINT, signal.SIGTERM):
        # uvicorn stops at these, then raises them again for whoever was there before it: that must not be the default,
        # which ends the process on the spot.
        asyncio.get_running_loop().add_signal_handler(number, lambda: None)
    try:
        await wiring.take_store(settings, store)
        await wiring.take_audit_store(settings, audit)
        gateway = Gateway(
            temporal=temporal,
            store=store,
            snapshots=wiring.snapshot_engine(settings, store, daemon),
            sandboxes=sandboxes,
            transcript=wiring.transcript(store),
            host_id=settings.host_id,
            token=settings.gateway_token,
            max_upload_bytes=settings.max_upload_bytes,
            history=wiring.history(settings, store),
            audit=audit,
            certificate_key=settings.audit.key or None,
        )
        config = uvicorn.Config(
            gateway.app(),
            host=listen.host,
            port=listen.port,
            log_config=None,
            # A request line may hold what is nobody's business; errors are logged by us.
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=DRAIN_SECONDS,
        )
        with listening(listen, "gateway", "HIBERNAUT_GATEWAY_LISTEN") as listener:
            log.info("gateway for host %s listens on http://%s:%d", settings.host_id, listen.host, listen.port)
            await uvicorn.Server(config).serve(sockets=[listener])
        log.info("gateway for host %s has stopped", settings.host_id)
    finally:
        await sandboxes.close()
        await audit.close()
        await store.close()


def listening(listen: Listen, who: str, variable: str) -> socket.socket:
    """The listening socket, bound here so that a port in use is a sentence.

    Raises:
        InvalidSettings: it cannot be.
    """
    family = socket.AF_INET6 if ":" in listen.host else socket.AF_INET
    try:
        return socket.create_server((listen.host, listen.port), family=family)
    except OSError as error:
        raise InvalidSettings(
            f"The {who} cannot listen on {listen.host}:{listen.port}: {_reason(error)}.",
            hint=f"Set {variable} to another address.",
        ) from error


def _reason(error: OSError) -> str:
    return os.strerror(error.errno) if error.errno else str(error)


def main() -> int:
    """Run; 0 after a signal, 1 when it cannot start, with the reason as a sentence."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    try:
        asyncio.run(_serve())
    except (HibernautError, HibernautActivityError) as error:
        print(f"The gateway cannot start. {error}", file=sys.stderr)  # noqa: T201  # said to whoever started it
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
