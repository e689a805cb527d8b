"""Asks Temporal about a task that a worker works on."""

from datetime import timedelta

from temporalio.client import AsyncActivityCancelledError, Client
from temporalio.service import RPCError, RPCStatusCode

from activities.errors import SandboxUnavailable

RPC_TIMEOUT = timedelta(seconds=5)
"""An answer that is older says nothing of now."""


class TaskWanted:
    """Whether Temporal still waits for the activity of a task token: a heartbeat that is answered."""

    def __init__(self, client: Client) -> None:
        """Ask through this client."""
        self._client = client

    async def __call__(self, task_token: bytes) -> bool:
        """See `activities.host.Wanted`."""
        handle = self._client.get_async_activity_handle(task_token=task_token)
        try:
            await handle.heartbeat(rpc_timeout=RPC_TIMEOUT)
        except AsyncActivityCancelledError:
            return False
        except (RPCError, RuntimeError) as error:
            if isinstance(error, RPCError) and error.status is RPCStatusCode.NOT_FOUND:
                return False
            raise SandboxUnavailable(f"Temporal does not say whether the agent still asks: {error}") from error
        return True
