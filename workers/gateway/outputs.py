"""What an agent said: transcript and answers."""

import json
from collections.abc import AsyncGenerator
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response

from activities.transcript import Segment, Transcript
from hibernaut.client import AgentClient
from hibernaut.errors import InvalidRequest, MessageUnknown
from hibernaut.models import AgentStatus, Answer, AnswerState
from workers.gateway import requests
from workers.gateway.events import Events
from workers.gateway.streams import NDJSON, streamed

MAX_MESSAGE_ID = 200


@dataclass(frozen=True, slots=True)
class Outputs:
    """The routes `transcript` and `answers` of an agent."""

    agents: AgentClient
    transcript: Transcript
    events: Events

    async def conversation(self, request: Request) -> Response:
        """GET: every item of the conversation, oldest first, one a line."""
        status = await self.agents.get(requests.agent_id(request)).status()
        return await streamed(self._items(status.transcript_ref), NDJSON)

    async def answer(self, request: Request) -> Response:
        """GET: the whole answer to a message, however long ago."""
        name = requests.agent_id(request)
        message_id = str(request.path_params["message_id"])
        if len(message_id) > MAX_MESSAGE_ID:
            raise InvalidRequest(f"A message id has at most {MAX_MESSAGE_ID} characters.")
        agent = self.agents.get(name)
        answer = await agent.answer(message_id)
        if answer.truncated or answer.state is AnswerState.UNKNOWN:
            answer = await self._recalled(await agent.status(), answer)
        return Response(json.dumps(answer.model_dump(mode="json")), media_type="application/json")

    async def _items(self, ref: str | None) -> AsyncGenerator[bytes]:
        # A segment names the one before it: the first walk finds the keys, the second tells them in order, and
        # neither holds more than one segment.
        keys: list[str] = []
        while ref is not None:
            keys.append(ref)
            ref = (await self.transcript.segment(ref)).previous
        for key in reversed(keys):
            segment = await self.transcript.segment(key)
            lines = [json.dumps(item) for item in (*segment.new_items, *segment.reply_items)]
            yield "".join(f"{line}\n" for line in lines).encode()

    async def _recalled(self, status: AgentStatus, answer: Answer) -> Answer:
        """The answer from the records: which step ended the turn is in the event log, its text in the transcript."""
        end = await self.events.turn_end(status, answer.message_id)
        if end is None:
            if answer.state is not AnswerState.UNKNOWN:
                return answer
            raise MessageUnknown(
                f"Agent {status.agent_id} knows no message {answer.message_id}.", agent_id=status.agent_id
            )
        state = AnswerState(str(end.data.get("state", AnswerState.UNKNOWN)))
        if answer.segment_ref is not None:
            segment: Segment | None = await self.transcript.segment(answer.segment_ref)
        else:
            segment = await self._segment(status.transcript_ref, end.step - 1)
        whole = state in {AnswerState.DONE, AnswerState.REFUSED} and segment is not None
        return answer.model_copy(
            update={
                "state": state,
                "text": segment.text if whole and segment else answer.text or end.summary,
                "truncated": False,
                "turn": end.turn,
                "steps": int(str(end.data.get("steps", answer.steps))),
            }
        )

    async def _segment(self, ref: str | None, step: int) -> Segment | None:
        while ref is not None:
            segment = await self.transcript.segment(ref)
            if segment.step <= step:
                return segment if segment.step == step else None
            ref = segment.previous
        return None
