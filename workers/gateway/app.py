"""The application: routes, the guard before them, errors behind them."""

from pydantic import SecretStr
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from temporalio.client import Client

from activities.checkpoints import Checkpoints
from activities.errors import HibernautActivityError
from activities.ports.store import ObjectStore
from activities.snapshots.history import History
from activities.transcript import Transcript
from hibernaut import __version__
from hibernaut._temporal import Workflows
from hibernaut.client import AgentClient
from hibernaut.errors import HibernautError
from workers.gateway import problems
from workers.gateway.artifacts import Artifacts
from workers.gateway.certificates import Certificates
from workers.gateway.checkpoints import CheckpointList
from workers.gateway.events import Events
from workers.gateway.execs import Execs
from workers.gateway.files import Files, SandboxFiles, SnapshotFiles
from workers.gateway.guard import Guard
from workers.gateway.outputs import Outputs
from workers.gateway.snapshots import Snapshots


class Gateway:
    """The gateway with all it depends on given to it."""

    def __init__(  # noqa: PLR0913  # all it depends on is given to it
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
        history: History | None = None,
        certificate_key: bytes | None = None,
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
            history: Reads what snapshots there are; by default from `store`.
            certificate_key: Tells whether the digest of a deletion certificate is right, where it has one.
        """
        self._token = token
        agents, workflows = AgentClient.over(temporal), Workflows(temporal)
        self._snapshots = Snapshots(workflows, history or History(store))
        self._files = Files(agents, workflows, store, snapshots, self._snapshots, sandboxes, host_id, max_upload_bytes)
        self._events = Events(workflows, store)
        self._artifacts = Artifacts(agents, store)
        self._certificates = Certificates(store, certificate_key)
        self._checkpoints = CheckpointList(workflows, Checkpoints(store))
        self._outputs = Outputs(agents, transcript, self._events)
        self._execs = Execs(workflows, store, self._events)

    def app(self) -> Starlette:
        """The ASGI application."""
        agent = "/v1/agents/{agent_id}"
        return Starlette(
            routes=[
                Route("/healthz", _healthy),
                Route("/v1/certificates/{name}", self._certificates.show, methods=["GET"]),
                Route(f"{agent}/files", self._files.list, methods=["GET"]),
                Route(f"{agent}/files/content", self._files.read, methods=["GET"]),
                Route(f"{agent}/files/content", self._files.write, methods=["PUT"]),
                Route(f"{agent}/snapshots", self._snapshots.list, methods=["GET"]),
                # A reference has slashes: what follows it decides.
                Route(f"{agent}/snapshots/{{snapshot:path}}/paths", self._snapshots.paths, methods=["GET"]),
                Route(f"{agent}/snapshots/{{snapshot:path}}/changes", self._snapshots.changes, methods=["GET"]),
                Route(f"{agent}/snapshots/{{snapshot:path}}", self._snapshots.show, methods=["GET"]),
                Route(f"{agent}/artifacts", self._artifacts.list, methods=["GET"]),
                Route(f"{agent}/artifacts/{{artifact_id}}", self._artifacts.content, methods=["GET"]),
                Route(f"{agent}/artifacts/{{artifact_id}}/link", self._artifacts.link, methods=["GET"]),
                Route(f"{agent}/checkpoints", self._checkpoints.stream, methods=["GET"]),
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
