"""What people say to an agent at work: stop, go on, and what it waits for."""

import getpass
from typing import TYPE_CHECKING, Any

from hibernaut._messages import check_message_id
from hibernaut.errors import AgentError
from hibernaut.models import AgentStatus, Answer, ApproveRequest, DenyRequest, RespondRequest, Waiting, WaitKind

if TYPE_CHECKING:
    from hibernaut._temporal import Workflows


class PersonNeeded(AgentError):
    """The turn waits for a person; `waiting` says for what. It goes on as soon as somebody decides."""

    code = "needs_approval"

    def __init__(self, agent_id: str, waiting: Waiting) -> None:
        self.waiting = waiting
        if waiting.kind is WaitKind.APPROVAL:
            more = " [... and more that is too long to be shown]" if waiting.cut else ""
            message = f"Agent {agent_id} waits for consent to run: {waiting.text}{more}"
            hint = f"`hibernaut approve {agent_id}` or `hibernaut deny {agent_id} --reason ...`; then it goes on."
        else:
            choices = f" ({' | '.join(waiting.choices)})" if waiting.choices else ""
            message = f"Agent {agent_id} asks: {waiting.text}{choices}"
            hint = f"`hibernaut answer {agent_id} TEXT`; then it goes on."
        super().__init__(message, agent_id=agent_id, hint=hint)


def needs_person(waiting: Waiting) -> bool:
    """Whether what is waited for is a person."""
    return waiting.kind in {WaitKind.APPROVAL, WaitKind.QUESTION}


class People:
    """The part of an agent's handle for the people in its loop."""

    id: str
    _workflows: "Workflows"

    async def interrupt(self, message_id: str | None = None) -> AgentStatus:
        """Stop the current turn: its command is killed, its message answered as interrupted. The agent stays.

        Args:
            message_id: Only if it is the turn of this message: another one may have begun meanwhile.
        """
        return await self._request("interrupt", *([] if message_id is None else [message_id]))

    async def withdraw(self, message_id: str) -> Answer:
        """Take a message back: its turn is interrupted; one that waits gets none, and is answered as interrupted.

        One that the agent has not got yet is refused as a duplicate when it comes. One that is answered, or that
        steers the turn of another, is left as it is. Returns what has become of the message.
        """
        check_message_id(message_id)
        return await self._workflows.update(self.id, "withdraw", [message_id], Answer)

    async def pause(self, reason: str = "") -> AgentStatus:
        """Take up no further step until `resume`; messages are still accepted."""
        return await self._request("pause", reason)

    async def resume(self) -> AgentStatus:
        """Go on after a pause."""
        return await self._request("resume")

    async def approve(self, call_id: str | None = None, *, always: bool = False, by: str | None = None) -> AgentStatus:
        """Let the call that waits for consent run.

        Args:
            call_id: The call that is meant, as `status().waiting` names it; without it the one that waits.
            always: Never ask this agent about the very same call again: the same commands, or the same arguments.
            by: Who decided, for the events; the name of the user by default.

        Raises:
            RequestRejected: no call waits for consent, or another one than `call_id`.
        """
        return await self._decide("approve", ApproveRequest(call_id=call_id, always=always, by=_who(by)))

    async def deny(self, call_id: str | None = None, *, reason: str = "", by: str | None = None) -> AgentStatus:
        """Refuse the call that waits for consent; the model is told the reason. Otherwise as `approve`."""
        return await self._decide("deny", DenyRequest(call_id=call_id, reason=reason, by=_who(by)))

    async def respond(self, text: str, *, call_id: str | None = None, by: str | None = None) -> AgentStatus:
        """Answer the question that the agent asked with `ask_human`. Otherwise as `approve`."""
        return await self._decide("respond", RespondRequest(text=text, call_id=call_id, by=_who(by)))

    async def _request(self, name: str, *args: Any) -> AgentStatus:  # noqa: ANN401  # JSON of any shape
        return await self._workflows.update(self.id, name, list(args), AgentStatus)

    async def _decide(self, name: str, request: ApproveRequest | DenyRequest | RespondRequest) -> AgentStatus:
        return await self._request(name, request)


def _who(by: str | None) -> str:
    if by is not None:
        return by
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        # A user id without a name.
        return ""
