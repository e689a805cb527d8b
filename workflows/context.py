"""What the parts of an agent share: its record, its spec, its event log, and how its state is shown."""

from typing import Any

from temporalio import workflow
from temporalio.common import SearchAttributeKey, SearchAttributeUpdate

from hibernaut.models import AgentSpec, AgentState, AgentStatus, EventKind, Waiting, WaitKind
from workflows.journal import Journal
from workflows.record import AgentRecord

STATE = SearchAttributeKey.for_keyword("HibernautState")
MODEL = SearchAttributeKey.for_keyword("HibernautModel")
HOST = SearchAttributeKey.for_keyword("HibernautHost")
STEPS = SearchAttributeKey.for_int("HibernautSteps")
RECOVERIES = SearchAttributeKey.for_int("HibernautRecoveries")

SHOWN = 400
"""Characters of what an agent waits for in the web UI."""


class Context:
    """One agent's record and spec, and the few things every part does with them."""

    def __init__(self, agent_id: str, spec: AgentSpec, record: AgentRecord) -> None:
        """Work on the carried record."""
        self.agent_id = agent_id
        self.spec = spec
        self.record = record
        self.journal = Journal(record)
        self.state = AgentState(record.shown_state or AgentState.IDLE)
        self.doing = ""
        self.recovering = False
        self.exec_prefix: str | None = None
        """The tool call whose commands run."""

    def show(self, state: AgentState, doing: str = "") -> None:
        """Set the state, its search attributes and the current details of the web UI."""
        record = self.record
        record.tick(workflow.now())
        self.state = state
        if record.shown_state != state:
            record.shown_state = state.value
            updates: list[SearchAttributeUpdate[Any]] = [
                STATE.value_set(state.value),
                MODEL.value_set(self.spec.model),
                HOST.value_set(record.lease.host_id) if record.lease else HOST.value_unset(),
                STEPS.value_set(record.step),
                RECOVERIES.value_set(record.recoveries),
            ]
            workflow.upsert_search_attributes(updates)  # pyright: ignore[reportUnknownMemberType]  # generic in the SDK
        self.doing = doing
        workflow.set_current_details(self._details())

    def pause(self, reason: str | None) -> None:
        """Stop before the next step; the reason is shown everywhere until somebody resumes the agent."""
        record = self.record
        if not record.paused:
            self.journal.add(EventKind.PAUSED, f"paused: {reason}" if reason else "paused", reason=reason)
        record.paused = True
        record.paused_reason = reason
        self.show(AgentState.PAUSED)

    async def while_paused(self) -> bool:
        """Wait until the agent is resumed; False when the turn is to end instead."""
        record = self.record
        await workflow.wait_condition(
            lambda: not record.paused or record.stopping,
            timeout_summary="paused",
        )
        return not record.stopping

    def status(self) -> AgentStatus:
        """The answer to the query `status`."""
        record = self.record
        return AgentStatus(
            agent_id=self.agent_id,
            agent_uid=record.uid,
            state=AgentState.CLOSED if record.closed else self.state,
            paused_reason=record.paused_reason if record.paused else None,
            spec=self.spec,
            turn=record.turn,
            steps=record.step,
            branch=record.branch,
            rewinding=record.rewind.branch if record.rewind is not None else None,
            rewind_failure=record.rewind_failure,
            rewinds=dict(record.rewinds),
            forked_from=record.forked_from,
            parent=record.parent,
            children=tuple(child.status() for child in record.children.known),
            inbox=len(record.inbox) + len(record.steering),
            waiting=record.waiting,
            current_message_id=record.current.message_id if record.current else None,
            exec_prefix=self.exec_prefix,
            generation=record.generation,
            lease=record.lease,
            acquiring=record.acquiring,
            snapshot=record.snapshot,
            snapshots=record.snapshots,
            network=record.network.status(self.spec.sandbox.network, record.lease) if record.network.number else None,
            recovering=self.recovering,
            recoveries=record.recoveries,
            last_recovery=record.last_recovery,
            usage=record.usage,
            usage_estimate=record.usage_estimate,
            transcript_ref=record.transcript_ref,
            compactions=record.compaction.count if record.compaction is not None else 0,
            born_at=record.born_at,
            last_event=record.last_event,
            audit=record.audit,
        )

    def _details(self) -> str:
        record = self.record
        lines = [f"**{self.state.value}**" + (f" — {self.doing}" if self.doing else ""), ""]
        if record.paused:
            reason = record.paused_reason or "by request"
            how = "" if reason == record.budget.asking else f" Resume with `hibernaut resume {self.agent_id}`."
            lines += [f"Paused: {reason}.{how}", ""]
        if record.waiting is not None:
            lines += [waits_for(self.agent_id, record.waiting), ""]
        lines.append(
            f"turn {record.turn}, step {record.step}, {len(record.inbox)} waiting, {record.usage.total_tokens} tokens"
        )
        if record.lease is not None:
            lines.append(
                f"\nsandbox `{record.lease.sandbox_id[:12]}`, generation {record.lease.generation}, "
                f"host `{record.lease.host_id}`"
            )
        if record.snapshot is not None:
            lines.append(f"\n{record.snapshot.summary or f'snapshot {record.snapshot.number}'}")
        if record.last_recovery is not None:
            lines.append(f"\n{record.recoveries} recoveries, the last: {record.last_recovery.reason}")
        lines.append(f"\nmodel {self.spec.model} ({self.spec.provider}), image {self.spec.sandbox.image}")
        return "\n".join(lines)


def waits_for(agent_id: str, waiting: Waiting) -> str:
    """What an agent waits for, and what to say to it, for the web UI."""
    until = f" until {waiting.until:%Y-%m-%d %H:%M:%S %Z}" if waiting.until else ""
    match waiting.kind:
        case WaitKind.APPROVAL:
            how = f"`hibernaut approve {agent_id}` or `hibernaut deny {agent_id} --reason ...`"
            more = " and more" if waiting.cut or len(waiting.text) > SHOWN else ""
            return f"Waits for consent{until} to run `{waiting.text[:SHOWN]}`{more}. Say {how}."
        case WaitKind.QUESTION:
            return f"Asks{until}: {waiting.text[:SHOWN]} Answer with `hibernaut answer {agent_id} ...`."
        case WaitKind.TIME:
            return f"Waits{until}: {waiting.text[:SHOWN]}"
        case WaitKind.AGENT:
            return f"Waits{until} for agent `{waiting.agent_id}`: {waiting.text[:SHOWN]}"
