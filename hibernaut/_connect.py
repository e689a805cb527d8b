"""Connecting to Temporal, and what its RPC errors mean."""

import asyncio
import os

from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from hibernaut.connection import Connection
from hibernaut.errors import (
    HibernautError,
    NamespaceNotFound,
    NamespaceNotPrepared,
    NotAuthorized,
    TemporalUnreachable,
    Unavailable,
)

CONNECT_SECONDS = 4.0


async def connect(connection: Connection) -> Client:
    """Connect to Temporal, or say within a few seconds why that cannot be.

    Raises:
        TemporalUnreachable: nothing answers, or what answers is no Temporal server.
        NotAuthorized: the server refuses the credentials.
    """
    host, _, port = connection.address.rpartition(":")
    hint = "Start it with `make up`, or set TEMPORAL_ADDRESS to the server you mean."
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            _, writer = await asyncio.open_connection(host.strip("[]"), int(port))
            writer.close()
        async with asyncio.timeout(2 * CONNECT_SECONDS):
            config = connection.connect_config()
            return await Client.connect(**config, data_converter=connection.data_converter)
    except TimeoutError as error:
        msg = f"Temporal at {connection.address} does not answer."
        raise TemporalUnreachable(msg, hint=hint) from error
    except OSError as error:
        # asyncio's own text repeats the address; a failed look-up of a name has a negative number and a good text.
        reason = os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror or error
        msg = f"Temporal cannot be reached at {connection.address}: {reason}."
        raise TemporalUnreachable(msg, hint=hint) from error
    except ValueError as error:
        msg = f"The Temporal address {connection.address!r} is not host:port."
        raise TemporalUnreachable(msg, hint=hint) from error
    except RPCError as error:
        raise translate(error, connection.namespace) from error
    except RuntimeError as error:
        if "Unauthenticated" in str(error) or "PermissionDenied" in str(error):
            msg = f"Temporal at {connection.address} refuses these credentials."
            raise NotAuthorized(msg, hint="Check TEMPORAL_API_KEY and the TLS settings.") from error
        msg = f"What answers at {connection.address} is not a Temporal server, or wants other TLS settings."
        raise TemporalUnreachable(msg, hint=hint) from error


def translate(error: RPCError, namespace: str) -> HibernautError:
    """The error of ours that says what an RPC error of Temporal means."""
    text, status = error.message, error.status
    if status == RPCStatusCode.NOT_FOUND and "amespace" in text:
        msg = f"The Temporal server has no namespace {namespace!r}."
        return NamespaceNotFound(msg, hint="Set TEMPORAL_NAMESPACE, or create it; `make up` makes its own.")
    if "search attribute" in text.lower():
        return NamespaceNotPrepared(
            f"The namespace {namespace!r} lacks a search attribute: {text}.",
            hint="`make up` registers them; elsewhere: temporal operator search-attribute create "
            "--name HibernautState --type Keyword --name HibernautModel --type Keyword "
            "--name HibernautHost --type Keyword --name HibernautSteps --type Int "
            "--name HibernautRecoveries --type Int.",
        )
    if status in {RPCStatusCode.PERMISSION_DENIED, RPCStatusCode.UNAUTHENTICATED}:
        return NotAuthorized(f"Temporal refuses this: {text}.", hint="Check TEMPORAL_API_KEY and the TLS settings.")
    if status in {RPCStatusCode.UNAVAILABLE, RPCStatusCode.DEADLINE_EXCEEDED, RPCStatusCode.CANCELLED}:
        return TemporalUnreachable(f"Temporal does not answer any more: {text}.", hint="Is the server still running?")
    return Unavailable(f"Temporal answered with {status.name}: {text}.")
