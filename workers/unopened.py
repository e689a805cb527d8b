"""What a worker does with payloads that it cannot open: a request is refused, and the rest waits for a key.

Temporal opens all that comes with a task before anything of it is done, so one update that was sealed with a wrong key
would fail every task of its agent, for as long as the server keeps it. Here such a payload is passed on unopened: who
sent an update or a query is told, and nothing of it was recorded. With anything else, the task fails as before.
"""

import json
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NoReturn

from temporalio.api.common.v1 import Payload
from temporalio.bridge.proto.workflow_activation import WorkflowActivation, WorkflowActivationJob
from temporalio.bridge.proto.workflow_completion import WorkflowActivationCompletion
from temporalio.client import Client
from temporalio.contrib.pydantic import PydanticPayloadConverter
from temporalio.converter import DataConverter, EncodingPayloadConverter, PayloadCodec
from temporalio.exceptions import ApplicationError
from temporalio.worker import WorkflowInstance, WorkflowInstanceDetails, WorkflowRunner
from temporalio.workflow import Info

from hibernaut.codec import PayloadDamaged, PayloadSealed
from hibernaut.errors import HibernautError

# Nobody can send it, and no content that an agent reads can have it.
UNOPENED = f"unopened/{secrets.token_hex(16)}"


def passing_on(client: Client) -> Client:
    """The same client for a worker that runs workflows with `RefusingRunner`."""
    config = client.config()
    config["data_converter"] = passing(config["data_converter"])
    return Client(**config)


def passing(converter: DataConverter) -> DataConverter:
    """The same converter, which passes on what it cannot open, to fail where it is read."""
    codec = converter.payload_codec
    if codec is None:
        return converter
    return replace(converter, payload_codec=_Passing(codec), payload_converter_class=_Converter)


@dataclass(frozen=True)
class RefusingRunner(WorkflowRunner):
    """Runs workflows with another runner; fails a task with something unopened in it that must not get lost."""

    inner: WorkflowRunner

    def prepare_workflow(self, defn: Any) -> None:  # noqa: ANN401  # the type is private to the Temporal SDK
        """See `WorkflowRunner`."""
        self.inner.prepare_workflow(defn)

    def create_instance(self, det: WorkflowInstanceDetails) -> WorkflowInstance:
        """See `WorkflowRunner`."""
        return _Refusing(self.inner.create_instance(det))

    def set_worker_level_failure_exception_types(self, types: Any) -> None:  # noqa: ANN401  # handed through
        """See `WorkflowRunner`."""
        self.inner.set_worker_level_failure_exception_types(types)


class _Passing(PayloadCodec):
    def __init__(self, inner: PayloadCodec) -> None:
        self._inner = inner

    async def encode(self, payloads: Sequence[Payload]) -> list[Payload]:
        return await self._inner.encode(payloads)

    async def decode(self, payloads: Sequence[Payload]) -> list[Payload]:
        return [await self._opened(payload) for payload in payloads]

    async def _opened(self, payload: Payload) -> Payload:
        try:
            return (await self._inner.decode([payload]))[0]
        except (PayloadSealed, PayloadDamaged) as error:
            why = json.dumps([type(error).__name__, error.message, error.hint])
            return Payload(metadata={"encoding": UNOPENED.encode()}, data=why.encode())


class _Unopened(EncodingPayloadConverter):
    @property
    def encoding(self) -> str:
        return UNOPENED

    def to_payload(self, value: object) -> Payload | None:  # noqa: ARG002  # nothing is written so
        return None

    def from_payload(self, payload: Payload, type_hint: type | None = None) -> NoReturn:  # noqa: ARG002  # Temporal's
        kind, message, hint = json.loads(payload.data)
        # Of Temporal's own kind, which reaches whoever asked; one that is not retryable would end the workflow.
        raise ApplicationError(_sentence(HibernautError(message, hint=hint)), type=kind)


class _Converter(PydanticPayloadConverter):
    def __init__(self) -> None:
        super().__init__()
        self.converters = {**self.converters, UNOPENED.encode(): _Unopened()}


class _Refusing(WorkflowInstance):
    def __init__(self, inner: WorkflowInstance) -> None:
        self._inner = inner

    def activate(self, act: WorkflowActivation) -> WorkflowActivationCompletion:
        queries: dict[str, HibernautError] = {}
        for job in act.jobs:
            reason = _reason(job.SerializeToString())
            if reason is not None and not _is_asked(job):
                raise reason
            if reason is not None:
                queries[job.query_workflow.query_id] = reason
        completion = self._inner.activate(act)
        for command in completion.successful.commands:
            answer = command.respond_to_query
            if answer.query_id in queries and answer.HasField("failed"):
                # Of a query that fails, Temporal hands on the message alone, and that may be sealed.
                answer.failed.message = _sentence(queries[answer.query_id])
        return completion

    def get_serialization_context(self, command_info: Any) -> Any:  # noqa: ANN401  # types private to the SDK
        return self._inner.get_serialization_context(command_info)

    def get_external_store_context(self, command_info: Any) -> Any:  # noqa: ANN401  # the same
        return self._inner.get_external_store_context(command_info)

    def get_info(self) -> Info:
        return self._inner.get_info()

    def get_thread_id(self) -> int | None:
        return self._inner.get_thread_id()


def _is_asked(job: WorkflowActivationJob) -> bool:
    """Whether somebody waits for the answer, and nothing is recorded of what was asked."""
    match job.WhichOneof("variant"):
        case "query_workflow":
            return True
        case "do_update":
            # It is run once, and not when the update comes from the history.
            return job.do_update.run_validator
        case _:
            return False


def _reason(job: bytes) -> HibernautError | None:
    """The error with which a payload of a job was passed on."""
    place = job.find(UNOPENED.encode())
    if place < 0:
        return None
    # What follows is the payload's data: JSON, all of it ASCII.
    text = job[place:].decode("latin-1")
    (kind, message, hint), _ = json.JSONDecoder().raw_decode(text, text.index('["'))
    return (PayloadDamaged if kind == PayloadDamaged.__name__ else PayloadSealed)(message, hint=hint)


def _sentence(error: HibernautError) -> str:
    return f"The worker cannot open what it was sent. {error.message} {error.hint}".rstrip()
