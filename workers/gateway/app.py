"""The application: routes, the guard before them, errors behind them."""

from pydantic import SecretStr
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from temporalio.client import Client

from activities.errors import HibernautActivityError
from activities.ports.store import ObjectStore
from activities.transcript import Transcript
from hibernaut import __version__
from hibernaut._temporal import Workflows
from hibernaut.client import AgentClient
from hibernaut.errors import HibernautError
from workers.gateway import problems
from workers.gateway.events import Events
from workers.gateway.execs import Execs
from workers.gateway.files import Files, SandboxFiles, SnapshotFiles
from workers.gateway.guard import Guard
from workers.gateway.outputs import Outputs


class Gateway:
    """The gateway with all it depends on given to it."""

    def __init__(
        self,
        *,
        temporal: Client,
        store: ObjectStore,
        snapshots: SnapshotFiles,
        sandboxes: SandboxFiles | None,
        transcript: Transcript,
        host_id: str,
        token: SecretStr,
        max_upload_bytes: int,
    ) -> None:
        """Wire the routes.

        Args:
            temporal: A client with the pydantic data converter.
            store: The agents' object store.
            snapshots: Reads files of agents that have no container here.
            sandboxes: This host's containers; None where there is no Docker daemon.
            transcript: Reads conversations.
            host_id: The host whose containers `sandboxes` reaches.
            token: What every request must bear, `/healthz` alone excepted.
            max_upload_bytes: Largest file taken.
        """
        self._token = token
        agents, workflows = AgentClient.over(temporal), Workflows(temporal)
        self._files = Files(agents, workflows, store, snapshots, sandboxes, host_id, max_upload_bytes)
        self._events = Events(workflows, store)
        self._outputs = Outputs(agents, transcript, self._events)
        self._execs = Execs(workflows, store, self._events)

    def app(self) -> Starlette:
        """The ASGI application."""
        agent = "/v1/agents/{agent_id}"
        return Starlette(
            routes=[
                Route("/healthz", _healthy),
                Route(f"{agent}/files", self._files.list, methods=["GET"]),
                Route(f"{agent}/files/content", self._files.read, methods=["GET"]),
                Route(f"{agent}/files/content", self._files.write, methods=["PUT"]),
                Route(f"{agent}/events", self._events.stream, methods=["GET"]),
                Route(f"{agent}/transcript", self._outputs.conversation, methods=["GET"]),
                Route(f"{agent}/answers/{{message_id}}", self._outputs.answer, methods=["GET"]),
                Route(f"{agent}/exec", self._execs.newest, methods=["GET"]),
                Route(f"{agent}/exec/{{exec_id}}", self._execs.one, methods=["GET"]),
                Route(f"{agent}/exec/{{exec_id}}/{{stream}}", self._execs.output, methods=["GET"]),
            ],
            middleware=[Middleware(Guard, token=self._token)],
            exception_handlers={
                HibernautError: problems.hibernaut_error,
                HibernautActivityError: problems.activity_error,
                HTTPException: problems.http_error,
                Exception: problems.unexpected,
            },
        )


async def _healthy(_request: Request) -> Response:
    return JSONResponse({"status": "ok", "version": __version__})
