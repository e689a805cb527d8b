"""Which step is the newest that an agent can be forked at or rewound to: its calls answered, its files durable."""

from collections.abc import Iterable

from temporalio import workflow

from hibernaut.contracts import ModelReply, Standpoint
from hibernaut.models import Checkpoint, CheckpointFiles, Event, EventKind, SnapshotStatus
from workflows.context import Context
from workflows.record import AgentRecord

SUMMARY = 200
TELLING = frozenset({EventKind.REPLY, EventKind.SNAPSHOT, EventKind.RESTORED, EventKind.REWOUND, EventKind.FORKED})
"""Events that tell of checkpoints."""
FIELDS = frozenset(
    {"branch", "step", "segment_ref", "after_step", "ref", "number", "files", "bytes", "bytes_total"}
    | {"checkpoint", "from_branch", "left_branch", "left_newest"}
)
"""What of their data does."""


def step_done(record: AgentRecord, reply: ModelReply) -> None:
    """Note that the calls of the newest reply are answered, or that it asked for none."""
    said = "; ".join(f"$ {command}" for call in reply.tool_calls for command in call.commands) or reply.text_head
    record.answered = Checkpoint(
        branch=record.branch,
        step=record.step - 1,
        turn=record.turn,
        at=workflow.now(),
        summary=" ".join(said[: 2 * SUMMARY].split())[:SUMMARY],
        segment_ref=reply.segment_ref,
    )
    mark(record)


def mark(record: AgentRecord) -> None:
    """Note the newest finished step as the newest checkpoint, if all that its commands did is durable."""
    done = record.answered
    if done is not None and not record.dirty and record.ran <= done.step:
        record.checkpoint = done.model_copy(update={"snapshot": files_of(record.snapshot)})


def files_of(snapshot: SnapshotStatus | None) -> CheckpointFiles | None:
    """What a checkpoint says of a snapshot."""
    return CheckpointFiles.model_validate(snapshot.model_dump()) if snapshot is not None else None


def standpoint(context: Context) -> Standpoint:
    """The answer to the query `standpoint`."""
    record, newest = context.record, context.record.checkpoint
    # After a newer reply the answers are in its segment: the model has heard them.
    unheard = newest is not None and newest.segment_ref == record.transcript_ref
    return Standpoint(
        agent_id=context.agent_id,
        agent_uid=record.uid,
        spec=context.spec.model_dump(mode="json", exclude_defaults=True),
        branch=record.branch,
        newest=newest,
        pending=tuple(item for item in record.new_items() if item.kind in {"tool_result", "note"}) if unheard else (),
        recent=tuple(_short(record.events, record.events_kept)),
        image_id=record.image_id,
        compacted=record.compaction is not None and (record.compaction.count > 0 or record.compaction.due),
    )


def _short(events: Iterable[Event], kept: int) -> Iterable[Event]:
    for event in events:
        if event.seq > kept and event.kind in TELLING:
            data = {name: value for name, value in event.data.items() if name in FIELDS}
            yield event.model_copy(update={"data": data, "summary": event.summary[:SUMMARY]})
