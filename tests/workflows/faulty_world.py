"""A world that knows the truth: containers with files and a journal, snapshots that outlive them, and a plan of faults.

Every activity takes the next fault of its own list, or does what it should. What really happened is written down apart
from what the workflow is told, so that a test can compare the two.
"""

from collections.abc import Callable, Sequence

from temporalio import activity
from temporalio.exceptions import ApplicationError

from hibernaut import contracts as c
from hibernaut.models import ToolCall, Usage
from tests.workflows.faulty_sandbox import FaultySandbox, FaultyShell
from tests.workflows.faulty_truth import SAFE, Asked, Saved, died, lost


class FaultyWorld(FaultySandbox, FaultyShell):
    """One plan at a time: `begin` makes everything anew."""

    def activities(self) -> Sequence[Callable[..., object]]:
        return (
            self.call, self.choose, self.acquire, self.destroy, self.exec, self.take, self.restore, self.put,
            self.keep, self.append, self.assess, self.ping, self.keep_image, self.load_image,
        )  # fmt: skip

    # -- the model --------------------------------------------------------------------------------------------------

    @activity.defn(name=c.MODEL_CALL.name)
    async def call(self, request: c.ModelRequest) -> c.ModelReply:
        began = self.clock + 1
        fault = await self._enter(c.MODEL_CALL.name)
        if fault == "lost meanwhile":
            self._lose(self._newest())
        elif fault == "stopped meanwhile" and (box := self._newest()) is not None:
            box.running = False
        self._believe(request)
        key = (request.branch, request.step, request.ordinal)
        reply = self.replies.get(key)
        if reply is None:
            ref = c.StoreKeys.segment(request.agent_uid, *key)
            reply = self.replies[key] = self._reply(request).model_copy(update={"segment_ref": ref})
        if fault == "died after":
            raise died()
        self.asked.append(Asked(request, began))
        return reply

    def _believe(self, request: c.ModelRequest) -> None:
        """Expect no longer what a report says is gone."""
        for item in request.new_items:
            report = item.report if isinstance(item, c.Note) else None
            if report is not None and report.how == "restored":
                saved = self.store.get(f"snapshot-{report.restored_snapshot}")
                self.believed = {*(saved.files if saved else ()), *(done.command for done in report.replayed)}

    def _reply(self, request: c.ModelRequest) -> c.ModelReply:
        for item in request.new_items:
            if isinstance(item, c.UserMessage) and item.message_id not in self.seen_messages:
                self.seen_messages.add(item.message_id)
                number = item.text.removeprefix("message ")
                planned = self.plan.messages[int(number)] if number.isdigit() else ((1,),)
                self.steps_left = list(planned)
        if not self.steps_left:
            return c.ModelReply(segment_ref="", text_head="done", usage=Usage(total_tokens=1))
        calls = tuple(
            ToolCall(
                call_id=f"call_{request.step}_{index}",
                kind="shell_call",
                commands=tuple(
                    f"{SAFE if number % 2 else 'do'} s{request.step}-o{request.ordinal}-c{index}-i{number}"
                    for number in range(count)
                ),
            )
            for index, count in enumerate(self.steps_left.pop(0))
        )
        return c.ModelReply(segment_ref="", tool_calls=calls, usage=Usage(total_tokens=1))

    # -- files and snapshots ----------------------------------------------------------------------------------------

    @activity.defn(name=c.SNAPSHOT_TAKE.name)
    async def take(self, request: c.SnapshotRequest) -> c.SnapshotResult:
        fault = await self._enter(c.SNAPSHOT_TAKE.name)
        box = self._held(request.lease)
        if fault == "lost":
            self._lose(box)
        elif fault == "stopped" and box is not None:
            box.running = False
        if box is None or not box.running:
            raise lost()
        if request.lease.generation < max(self.boxes):
            raise ApplicationError("a later generation took over", type=c.SNAPSHOT_FENCED, non_retryable=True)
        parent = self.store[request.parent].files if request.parent else ()
        if tuple(box.files) == parent:
            return c.SnapshotResult(ref=request.parent, number=request.number, unchanged=True)
        ref = f"snapshot-{request.number}"
        self.store.setdefault(ref, Saved(request.number, tuple(box.files), request.parent))
        if fault == "died after":
            raise died()
        if fault == "taken, then lost":
            self._lose(box)
        return c.SnapshotResult(ref=ref, number=request.number, unchanged=False, added=1, files=1, summary=ref)

    @activity.defn(name=c.FILES_PUT.name)
    async def put(self, request: c.PutFileRequest) -> c.PutFileResult:
        fault = await self._enter(c.FILES_PUT.name)
        box = self._held(request.lease)
        if fault == "lost before":
            self._lose(box)
        elif fault == "stopped" and box is not None:
            box.running = False
        if box is None or not box.running:
            raise lost()
        if request.path not in box.files:
            box.files.append(request.path)
        if fault == "lost after":
            self._lose(box)
        return c.PutFileResult(path=request.path, size=3)

    # -- the rest ---------------------------------------------------------------------------------------------------

    @activity.defn(name=c.TRANSCRIPT_KEEP.name)
    async def keep(self, request: c.KeepTextRequest) -> c.KeepTextResult:
        return c.KeepTextResult(ref=c.StoreKeys.message(request.agent_uid, request.message_id))

    @activity.defn(name=c.EVENTS_APPEND.name)
    async def append(self, request: c.AppendEventsRequest) -> c.AppendEventsResult:
        self.events |= {event.seq: event for event in request.events}
        return c.AppendEventsResult(ref="events")
