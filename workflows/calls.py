"""The tool calls of a reply: each is answered, and its commands run at most once."""

from hibernaut.models import ToolCall
from hibernaut.models.people import Verdict
from workflows import bounds
from workflows.answers import Answers
from workflows.approvals import verdict
from workflows.checkpoints import step_done
from workflows.child_calls import ChildCalls
from workflows.children import START_AGENT
from workflows.context import Context
from workflows.functions import FunctionCalls
from workflows.lease import Lease
from workflows.outcomes import not_run
from workflows.publishing import Publishing
from workflows.record import OpenReply
from workflows.shell_run import ShellRun
from workflows.waits import Waits

SHOWN_COMMAND = 2_000
"""Characters that are known of a command that is cut because it is long, rather than because the reply is."""
MAX_COMMANDS = 200
"""Commands of one reply: each leaves an event, and model output is hostile input."""


class Calls:
    """Answers the calls of the open reply one after the other."""

    def __init__(self, context: Context, lease: Lease) -> None:
        """Share the agent's context and lease."""
        self._context = context
        self._record = context.record
        self._lease = lease
        self._answers = Answers(context)
        self._waits = Waits(context, self._answers)
        self._functions = FunctionCalls(context, self._answers)
        self._publishing = Publishing(context, lease, self._answers)
        self._children = ChildCalls(context, lease, self._answers, self._waits)

    async def answer(self) -> bool:
        """Every call gets an answer, whatever happens: a wire with an unanswered call is stuck for good.

        Returns:
            False, with the reply still open, when a call waits or the run is to end first.
        """
        record = self._record
        while (reply := record.open) is not None:
            if reply.done == len(reply.reply.tool_calls):
                record.open = None
                step_done(record, reply.reply)
            elif not self._waits.over or (reply.done and self._ends()):
                return False
            elif await self._one(reply):
                reply.done += 1
                reply.approved = False
        return True

    def _verdict(self, reply: OpenReply, call: ToolCall) -> Verdict:
        if reply.approved:
            return "allow"
        function = self._functions.find(call)
        asks = function is not None and function.approval
        return verdict(self._context.spec.approval, call, self._record.consented, asks=asks)

    def _ends(self) -> bool:
        """Whether the rest of the calls is left to the next run."""
        return bounds.due() and not self._record.stopping

    async def _one(self, reply: OpenReply) -> bool:
        """Whether the next call is answered; if not, it waits or may now go on."""
        record, answers = self._record, self._answers
        call = reply.reply.tool_calls[reply.done]
        prefix = f"b{record.branch}-s{record.step - 1}-c{reply.done}"
        if call.error is not None:
            answers.refused(call, call.error)
        elif sum(len(one.commands) for one in reply.reply.tool_calls[: reply.done + 1]) > MAX_COMMANDS:
            answers.refused(call, f"not run: one reply may ask for {MAX_COMMANDS} commands; ask again for these")
        elif not reply.intact or record.stopping:
            told = self._waits.drop(reply)
            reply.intact = False
            if told is not None:
                answers.refused(call, told)
            else:
                answers.not_run(call, not_run(call, prefix))
        elif reply.waiting is not None:
            return self._waits.settle(reply, call)
        elif (said := self._verdict(reply, call)) == "ask" and call.cut and _head(call) < SHOWN_COMMAND:
            answers.refused(
                call, "not run: this reply asked for more than a person can be shown; ask for this call alone"
            )
        elif said == "ask":
            self._waits.for_consent(reply, call)
            return False
        elif said == "deny":
            answers.refused(call, "not run: the approval policy of this agent denies it")
        else:
            return await self._carry_out(reply, call, prefix)
        return True

    async def _carry_out(self, reply: OpenReply, call: ToolCall, prefix: str) -> bool:
        """Run a call that may run; whether it is answered, rather than waits."""
        function = self._functions.find(call)
        if function is not None:
            await self._functions.run(function, call)
        elif call.tool == START_AGENT:
            return await self._children.begin(reply, call)
        elif call.tool not in ("shell", "publish"):
            return self._waits.begin(reply, call)
        elif not await self._lease.ready():
            reply.intact = False
            self._answers.not_run(call, not_run(call, prefix))
        elif call.tool == "publish":
            await self._publishing.run(call, prefix)
        else:
            self._record.ran = self._record.step - 1
            run = ShellRun(self._context, self._lease, call, prefix, reply.reply.segment_ref)
            reply.intact = await run.to_the_end(self._answers)
        return True


def _head(call: ToolCall) -> int:
    """Characters that are known of the longest command of a call."""
    return max((len(command) for command in call.commands), default=0)
