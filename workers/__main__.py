"""`python -m workers`: run a Temporal worker until SIGINT or SIGTERM."""

import asyncio
import logging
import os
import signal
import sys
from contextlib import AsyncExitStack
from pathlib import Path

import workflows
from activities.adapters.secret_values import SecretValues
from activities.errors import HibernautActivityError
from hibernaut.errors import HibernautError
from workers.memory import give_back_what_is_freed
from workers.settings import CHECKOUT, Settings
from workers.unseen import Unseen
from workers.watchdog.spawn import guarded
from workers.worker import connect, running


async def _serve() -> None:
    settings = Settings.load()
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    try:
        client = await connect(settings)
    except RuntimeError as error:
        connection = settings.connection
        raise HibernautError(
            f"Temporal does not answer at {connection.address} (namespace {connection.namespace}): {error}"
        ) from error
    async with AsyncExitStack() as stack:
        if settings.serves == "all":
            await stack.enter_async_context(guarded(settings))
        await stack.enter_async_context(running(settings, client))
        logging.getLogger(__name__).info(
            "worker %s runs against %s, namespace %s", settings.host_id, settings.connection.address, client.namespace
        )
        await stop.wait()
    logging.getLogger(__name__).info("worker %s has stopped", settings.host_id)
    logging.shutdown()
    # A command that runs on holds a thread, which the interpreter would wait for; the next worker attaches to it.
    os._exit(0)


def main() -> int:
    """Run; 0 after a signal, 1 when it cannot start, with the reason as a sentence."""
    give_back_what_is_freed()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    for handler in logging.getLogger().handlers:
        handler.addFilter(Unseen(SecretValues.of(os.environ)))
    here = Path(str(workflows.__file__)).resolve()
    if here.parents[1] != CHECKOUT:
        print(  # noqa: T201  # said to whoever started it
            f"The package `workflows` was found at {here}, outside {CHECKOUT}: another distribution of that name "
            "shadows ours. Run the worker from its own environment.",
            file=sys.stderr,
        )
        return 1
    try:
        asyncio.run(_serve())
    except (HibernautError, HibernautActivityError) as error:
        print(f"The worker cannot start. {error}", file=sys.stderr)  # noqa: T201  # the same
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
