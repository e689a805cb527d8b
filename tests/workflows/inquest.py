"""What must be true of a life, whatever failed in it."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from hibernaut import contracts as c
from hibernaut.models import AnswerState, EventKind, OutcomeKind, RecoveryReport
from tests.workflows.faulty_life import Life
from tests.workflows.faulty_truth import HOST, Asked, Box


@dataclass
class Told:
    """What the model had been told by some moment."""

    kinds: dict[str, OutcomeKind]
    """By exec id."""
    reports: list[RecoveryReport]

    @property
    def named(self) -> set[str]:
        return {
            command
            for report in self.reports
            for command in (
                *report.lost_commands, *report.uncertain_commands, *(done.command for done in report.replayed)
            )
        }  # fmt: skip


class Inquest:
    """Compares a life with the truth."""

    def __init__(self, life: Life) -> None:
        self.life = life
        self.world = life.world
        assert life.final is not None
        self.kept: dict[int, Asked] = {}
        for asked in life.world.asked:
            if asked.request.step < life.final.steps:
                before = self.kept.get(asked.request.step)
                if before is None or before.request.ordinal <= asked.request.ordinal:
                    self.kept[asked.request.step] = asked
        self.events = [event for _, event in sorted(life.world.events.items())]

    def violations(self) -> list[str]:
        """Everything that is not as it should be."""
        checks = (
            self._runs_once, self._answers, self._kinds, self._durable, self._told, self._reports, self._decisions,
            self._files, self._nothing_left,
        )  # fmt: skip
        return [f"{check.__name__[1:]}: {found}" for check in checks for found in check()]

    def told_before(self, step: int) -> Told:
        """What the kept requests of earlier steps said."""
        told = Told({}, [])
        for number, asked in sorted(self.kept.items()):
            for item in asked.request.new_items if number < step else ():
                if isinstance(item, c.Note) and item.report is not None:
                    told.reports.append(item.report)
                elif isinstance(item, c.ToolResult):
                    prefix = (item.record_ref or "").rpartition("/")[2].removesuffix(".json")
                    for outcome in self.world.records[prefix] if item.record_ref else item.outcomes:
                        told.kinds[outcome.exec_id] = outcome.kind
        return told

    def _excused(self, told: Told) -> set[str]:
        """The commands whose loss the model was told of."""
        gone = set(told.named)
        for report in told.reports:
            gone |= self.world.fallen_back.get((report.requested_snapshot or 0, report.restored_snapshot or 0), set())
        return gone

    def _runs_once(self) -> Iterable[str]:
        times = Counter(ran.exec_id for ran in self.world.ran)
        yield from (f"{exec_id} ran {count} times" for exec_id, count in times.items() if count > 1)
        commands = Counter(ran.command for ran in self.world.ran if not ran.exec_id.startswith("replay-"))
        yield from (f"{command!r} ran {count} times" for command, count in commands.items() if count > 1)
        for ran in self.world.ran:
            replayed = ran.exec_id.startswith("replay-")
            if replayed and (self.life.plan.recovery != "replay" or not ran.command.startswith("safe ")):
                yield f"{ran.command!r} was replayed"

    def _answers(self) -> Iterable[str]:
        life = self.life
        ended = Counter(
            event.data["message_id"]
            for event in self.events
            if event.kind in {EventKind.TURN_FINISHED, EventKind.INTERRUPTED}
        )
        shown = Counter(
            item.message_id
            for asked in self.kept.values()
            for item in asked.request.new_items
            if isinstance(item, c.UserMessage)
        )
        orders = {*(order for _, _, order in life.plan.orders), *life.plan.at_pause}
        for message_id in life.sent:
            answer = life.answers.get(message_id)
            if answer is None:
                yield f"{message_id} was never answered"
            elif answer.state is AnswerState.DONE and (ended[message_id], shown[message_id]) != (1, 1):
                yield f"{message_id} ended {ended[message_id]} times, shown {shown[message_id]} times"
            elif answer.state is not AnswerState.DONE and not orders & {"interrupt", "close"}:
                yield f"{message_id} ended as {answer.state}"
            elif max(ended[message_id], shown[message_id]) > 1:
                yield f"{message_id} ended {ended[message_id]} times, shown {shown[message_id]} times"

    def _kinds(self) -> Iterable[str]:
        begun = {ran.exec_id for ran in self.world.ran}
        for exec_id, kind in self.told_before(len(self.kept)).kinds.items():
            if kind is OutcomeKind.EXIT and exec_id not in self.world.finished:
                yield f"{exec_id} was told as ended, and never was"
            if kind is OutcomeKind.NOT_RUN and exec_id in begun:
                yield f"{exec_id} was told as not run, and it ran"

    def _durable(self) -> Iterable[str]:
        files: set[str] = set()
        for event in self.events:
            if event.kind is EventKind.SNAPSHOT and event.data["ref"]:
                files = set(self.world.store[str(event.data["ref"])].files)
            elif event.kind is EventKind.RESTORED:
                files = set(self.world.store[f"snapshot-{event.data['number']}"].files)
            elif event.kind is EventKind.TURN_FINISHED and event.data["state"] == "done":
                told = self.told_before(event.step)
                ended = {self.world.commands[name] for name, kind in told.kinds.items() if kind is OutcomeKind.EXIT}
                for command in sorted(ended - files - self._excused(told)):
                    yield f"{event.data['message_id']} was answered while {command!r} was in no snapshot, nor told lost"

    def _told(self) -> Iterable[str]:
        """A last turn without faults has found out everything: it was begun by the last message."""
        if self.life.plan.orders and "close" in {order for _, _, order in self.life.plan.orders}:
            return
        told = self.told_before(len(self.kept))
        newest = self.world.boxes[max(self.world.boxes)] if self.world.boxes else Box(0, HOST)
        for ran in self.world.ran:
            if ran.command not in newest.files and ran.command not in self._excused(told):
                yield f"{ran.command!r} is lost, and no report names it"

    def _reports(self) -> Iterable[str]:
        for report in self.told_before(len(self.kept)).reports:
            number, requested = report.restored_snapshot, report.requested_snapshot
            if report.how == "restored" and number is not None:
                kept = set(self.world.store[f"snapshot-{number}"].files)
                yield from (f"{name!r} was told lost, and is in {number}" for name in kept & set(report.lost_commands))
            if requested not in {None, number} and (requested or 0, number or 0) not in self.world.fallen_back:
                yield f"snapshot {requested} was told damaged, and is whole (restored: {number})"

    def _decisions(self) -> Iterable[str]:
        """No command runs whose call was decided before the model could know what was lost."""
        for ran in self.world.ran:
            if ran.exec_id.startswith("replay-"):
                continue
            step = int(ran.exec_id.split("-")[1].removeprefix("s"))
            box = self.world.boxes[ran.generation]
            if box.lossy and box.ready_at > self.kept[step].at:
                yield f"{ran.exec_id} ran at {ran.at} on a state of {box.ready_at} decided on at {self.kept[step].at}"

    def _files(self) -> Iterable[str]:
        excused = set[str]().union(*self.world.fallen_back.values())
        newest = self.world.boxes[max(self.world.boxes)] if self.world.boxes else Box(0, HOST)
        yield from (f"{path} is lost" for path in sorted(self.life.put - set(newest.files) - excused))

    def _nothing_left(self) -> Iterable[str]:
        yield from (f"container {box.generation} is left" for box in self.world.alive if box.host == HOST)
