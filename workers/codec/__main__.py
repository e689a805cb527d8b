"""`python -m workers.codec [serve | new NAME | list | retire ID]`: the codec server, and the keys of payloads."""

import argparse
import asyncio
import logging
import os
import secrets
import signal
import sys

import uvicorn

from activities.errors import HibernautActivityError
from hibernaut._keyring import HINT, KEY_BYTES, NAME, line
from hibernaut.codec import payload_keys
from hibernaut.errors import HibernautError, InvalidRequest, InvalidSettings
from workers import owner, wiring
from workers.codec.app import CodecServer
from workers.codec.settings import CodecSettings
from workers.gateway.__main__ import listening
from workers.settings import Settings

log = logging.getLogger("workers.codec")

DRAIN_SECONDS = 3


async def _serve() -> None:
    settings = CodecSettings.load()
    listen = settings.listen
    if not listen.loopback:
        log.warning("listening on %s: put TLS in front, token and content travel in the clear", listen.host)
    for number in (signal.SIGINT, signal.SIGTERM):
        # As of the gateway: uvicorn raises them again.
        asyncio.get_running_loop().add_signal_handler(number, lambda: None)
    config = uvicorn.Config(
        CodecServer(settings).app(),
        host=listen.host,
        port=listen.port,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=DRAIN_SECONDS,
    )
    with listening(listen, "codec server", "HIBERNAUT_CODEC_LISTEN") as listener:
        port = listener.getsockname()[1]
        log.info("codec server for the namespace %s listens on http://%s:%d", settings.namespace, listen.host, port)
        await uvicorn.Server(config).serve(sockets=[listener])


async def _retire(key: str) -> str:
    settings = Settings.load()
    if key == settings.connection.payload_keys.first:
        raise InvalidRequest(f"The key {key} still seals.", hint="Put another one before it first.")
    store = wiring.open_store(settings)
    try:
        struck = await owner.retire(store, settings.store, key)
    finally:
        await store.close()
    return f"{key} is struck off" if struck else f"{key} is not on the list"


def _new(name: str) -> str:
    if NAME.fullmatch(name) is None:
        raise InvalidRequest(f"{name!r} is no name of a key.", hint="Use 1 to 64 of the characters A-Z a-z 0-9 . _ -.")
    return line(name, secrets.token_bytes(KEY_BYTES))


def _listed() -> str:
    keys = payload_keys(os.environ)
    if not keys.names:
        raise InvalidSettings("The environment names no keys: payloads are not sealed.", hint=HINT)
    return "\n".join(f"{one}  {'seals' if one == keys.first else 'opens'}  {name}" for one, name in keys.names.items())


def main() -> int:
    """Run; 0 after a signal, 1 when it cannot be, with the reason as a sentence."""
    parser = argparse.ArgumentParser(prog="python -m workers.codec", description="Opens payloads for those who may.")
    commands = parser.add_subparsers(dest="command")
    commands.add_parser("serve", help="serve Temporal's web UI and command line; what it does without a command")
    making = commands.add_parser("new", help="print an entry with a new key for the key file")
    making.add_argument("name", help="what to call it, such as the date")
    commands.add_parser("list", help="print ids and names of the keys that the environment names, no secrets")
    retiring = commands.add_parser("retire", help="no worker needs this key any more")
    retiring.add_argument("key", help="its id")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    try:
        match arguments.command:
            case "new":
                said = _new(arguments.name)
            case "list":
                said = _listed()
            case "retire":
                said = asyncio.run(_retire(arguments.key))
            case _:
                asyncio.run(_serve())
                return 0
    except (HibernautError, HibernautActivityError) as error:
        print(error, file=sys.stderr)  # noqa: T201  # said to whoever started it
        return 1
    print(said)  # noqa: T201  # what it is for
    return 0


if __name__ == "__main__":
    sys.exit(main())
