"""Calls that wait: for a person's consent, for an answer, for a time. Waiting costs no container."""

from datetime import datetime, timedelta
from typing import cast

from pydantic import JsonValue
from temporalio import workflow

from hibernaut.models import EventKind, ToolCall, Waiting, WaitKind
from hibernaut.models.children import ChildState
from workflows.answers import Answers
from workflows.approvals import SHOWN, shown
from workflows.context import Context
from workflows.functions import MAX_TOGETHER
from workflows.inbox import from_a_child
from workflows.offspring import Child
from workflows.record import Decision, OpenReply

SHOWN_REASON = 2_000
LONGEST = timedelta(days=366)


class Waits:
    """Begins and ends what the next call of a reply waits for."""

    def __init__(self, context: Context, answers: Answers) -> None:
        """Share the agent's context; calls are answered through `answers`."""
        self._context = context
        self._record = context.record
        self._answers = answers

    @property
    def over(self) -> bool:
        """Whether what is waited for has come, or will not."""
        return over(self._context)

    def for_consent(self, reply: OpenReply, call: ToolCall) -> None:
        """Wait until a person approves or denies a call, or its time is up."""
        policy = self._context.spec.approval
        until = workflow.now() + policy.timeout if policy.timeout is not None else None
        text = shown(call)
        self._wait(reply, call, WaitKind.APPROVAL, text[:SHOWN], until, cut=call.cut or len(text) > SHOWN)

    def for_agent(self, reply: OpenReply, call: ToolCall, child: Child) -> None:
        """Wait until a child has ended, or its time is up."""
        self._wait(reply, call, WaitKind.AGENT, child.task, child.until, agent_id=child.agent_id)

    def begin(self, reply: OpenReply, call: ToolCall) -> bool:
        """Carry out a tool of the engine's own: each of them waits. Whether it is answered already."""
        asked = call.arguments or {}
        now = workflow.now()
        match call.tool:
            case "sleep":
                until = now + timedelta(seconds=float(cast("float", asked["seconds"])))
                self._wait(reply, call, WaitKind.TIME, str(asked.get("reason", "")), until)
            case "wait_until":
                until = datetime.fromisoformat(str(asked["time"]))
                if until > now + LONGEST:
                    self._answers.refused(call, f"not waited: it is {now.isoformat()} now; a year ahead is the most")
                    return True
                self._wait(reply, call, WaitKind.TIME, str(asked.get("reason", "")), until)
            case _:
                patience = asked.get("timeout_seconds")
                limit = now + timedelta(seconds=float(cast("float", patience))) if patience is not None else None
                choices = tuple(str(choice) for choice in cast("list[object]", asked.get("choices") or []))
                self._wait(reply, call, WaitKind.QUESTION, str(asked["question"]), limit, choices=choices)
        return False

    def settle(self, reply: OpenReply, call: ToolCall) -> bool:
        """End a wait that is over; whether the call is answered with it, rather than free to run."""
        waiting, decision = reply.waiting, reply.decision
        if waiting is None:
            return False
        reply.waiting = reply.decision = None
        match waiting.kind:
            case WaitKind.APPROVAL:
                return self._consented(reply, call, decision)
            case WaitKind.QUESTION:
                self._tell(call, waiting, "answered" if decision else "expired", decision)
                self._answers.returned(
                    call,
                    {"answer": decision.text, "answered_by": decision.by or None}
                    if decision
                    else {"answer": None, "timed_out": True},
                )
            case WaitKind.TIME:
                due = waiting.until is None or workflow.now() >= waiting.until
                self._tell(call, waiting, "due" if due else "woken", None)
                slept = round((workflow.now() - waiting.since).total_seconds())
                self._answers.returned(
                    call,
                    {
                        "waited_seconds": slept,
                        "time": workflow.now().isoformat(timespec="seconds"),
                        "ended_by": "time" if due else "message",
                    },
                )
            case WaitKind.AGENT:
                self._heard(call, waiting)
        return True

    def drop(self, reply: OpenReply) -> str | None:
        """Forget what a call waits for that will not run; what is to be said of one that has begun something."""
        told = None
        if reply.waiting is not None:
            self._tell(reply.reply.tool_calls[reply.done], reply.waiting, "stopped", None)
            if (child := self._record.children.find(reply.waiting.agent_id)) is not None:
                child.stop, child.text = True, ""
            if reply.waiting.kind is WaitKind.AGENT:
                told = f"the turn was stopped while this call waited for the agent {reply.waiting.agent_id}, now closed"
        reply.waiting = reply.decision = None
        return told

    def _heard(self, call: ToolCall, waiting: Waiting) -> None:
        """Answer with what became of a child; one that has time left goes on when a message ended the wait."""
        child = self._record.children.find(waiting.agent_id)
        said: dict[str, JsonValue] = {"agent": waiting.agent_id}
        if child is None:
            said["state"] = ChildState.UNKNOWN.value
        elif child.state is not ChildState.RUNNING:
            room = max(0, MAX_TOGETHER - self._answers.size)
            answer = child.text.encode()[:room].decode(errors="ignore")
            said |= {"state": child.state.value, "answer": answer}
            if child.truncated or answer != child.text:
                said["cut"] = True
            child.text = ""
        elif waiting.until is not None and workflow.now() >= waiting.until:
            child.stop = True
            said["state"] = ChildState.TIMED_OUT.value
        else:
            child.background = True
            said |= {
                "state": child.state.value,
                "ended_by": "message",
                "note": "It works on; its answer will come as a message.",
            }
        self._tell(call, waiting, str(said["state"]), None)
        self._answers.returned(call, said)

    def _consented(self, reply: OpenReply, call: ToolCall, decision: Decision | None) -> bool:
        policy = self._context.spec.approval
        approved = decision.approved if decision is not None else policy.on_timeout == "approve"
        word = "approved" if approved else "denied"
        self._tell(call, None, word if decision is not None else f"expired, {word}", decision)
        if approved:
            reply.approved = True
            return False
        if decision is None:
            self._answers.refused(call, "not run: it needs a person's consent, and nobody gave it in time")
        else:
            reason = f": {decision.text}" if decision.text else ""
            self._answers.refused(call, f"not run: the person who was asked denied it{reason}")
        return True

    def _wait(
        self,
        reply: OpenReply,
        call: ToolCall,
        kind: WaitKind,
        text: str,
        until: datetime | None,
        *,
        cut: bool = False,
        choices: tuple[str, ...] = (),
        agent_id: str = "",
    ) -> None:
        reply.waiting = Waiting(
            kind=kind,
            call_id=call.call_id,
            tool=call.tool,
            text=text,
            cut=cut,
            choices=choices,
            since=workflow.now(),
            until=until,
            agent_id=agent_id,
        )
        self._context.journal.add(
            EventKind.WAITING, f"waits for {_word(reply.waiting)}", **reply.waiting.model_dump(mode="json")
        )

    def _tell(self, call: ToolCall, waiting: Waiting | None, decision: str, by: Decision | None) -> None:
        kind = waiting.kind if waiting is not None else WaitKind.APPROVAL
        who = f" by {by.by}" if by is not None and by.by else ""
        self._context.journal.add(
            EventKind.DECIDED,
            f"{kind.value} {decision}{who}{f': {by.text}' if by is not None and by.text else ''}",
            call_id=call.call_id,
            kind=kind.value,
            decision=decision,
            by=by.by if by is not None else "",
            reason=by.text[:SHOWN_REASON] if by is not None else "",
        )


def over(context: Context) -> bool:
    """Whether what the open call waits for has come, or will not."""
    record = context.record
    waiting = record.waiting
    if waiting is None:
        return True
    if waiting.until is not None and workflow.now() >= waiting.until:
        return True
    if waiting.kind is WaitKind.AGENT:
        child = record.children.find(waiting.agent_id)
        over = child is None or child.state is not ChildState.RUNNING
        # That another child has ended is no reason to leave this one.
        return over or any(not from_a_child(message) for message in record.steering)
    return waiting.kind is WaitKind.TIME and bool(record.steering)


def patience(context: Context) -> timedelta | None:
    """How long until what is waited for is decided by time alone; none when nothing waits, or for ever."""
    waiting = context.record.waiting
    if waiting is None or waiting.until is None:
        return None
    return max(waiting.until - workflow.now(), timedelta(0))


def _word(waiting: Waiting) -> str:
    until = f" until {waiting.until.isoformat(timespec='seconds')}" if waiting.until else ""
    match waiting.kind:
        case WaitKind.APPROVAL:
            return f"consent{until}: {waiting.text}"
        case WaitKind.QUESTION:
            return f"an answer{until}: {waiting.text}"
        case WaitKind.TIME:
            return f"the time{until}" + (f": {waiting.text}" if waiting.text else "")
        case WaitKind.AGENT:
            return f"agent {waiting.agent_id}{until}: {waiting.text}"
