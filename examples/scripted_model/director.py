"""Decides which step of a script a request gets."""

import inspect
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import cast

from examples.scripted_model.conversation import Conversation
from examples.scripted_model.steps import Callback, Reply, Script, Step
from examples.scripted_model.typed import ApiError


class Director:
    """One script, played to any number of conversations.

    Which *reply* is due follows from the conversation alone, as with a model; only faults already given are remembered.
    """

    def __init__(self, script: Script) -> None:
        self._callback: Callback | None = None
        self._groups: list[tuple[list[Step], Step | Callback | None]] = []
        self._given: Counter[tuple[str, int]] = Counter()
        self._played: set[tuple[int, int]] = set()
        if callable(script):
            self._callback = script
        else:
            self._group(script)

    def _group(self, steps: Sequence[Step | Callback]) -> None:
        faults: list[Step] = []
        for step in steps:
            if isinstance(step, Reply) or callable(step):
                self._groups.append((faults, step))
                faults = []
            else:
                faults.append(step)
        if faults:
            self._groups.append((faults, None))

    def next(self, conversation: Conversation) -> Step:
        """The step for this conversation.

        Raises:
            ApiError: the script has no reply for it; not worth a retry.
        """
        if self._callback is not None:
            self._played.add((0, 0))
            return self._callback(conversation)
        at = conversation.replies
        if at < len(self._groups):
            faults, reply = self._groups[at]
            given = self._given[conversation.key, at]
            if given < len(faults):
                self._given[conversation.key, at] += 1
                self._played.add((at, given))
                return faults[given]
            if reply is not None:
                self._played.add((at, len(faults)))
                return reply(conversation) if callable(reply) else reply
        message = f"The script has {len(self._groups)} replies, and the conversation asks for reply {at + 1}."
        raise ApiError(400, message, code="script_exhausted")

    def unplayed(self) -> list[str]:
        """The steps that no conversation has been given."""
        if self._callback is not None:
            return [] if self._played else [_name(self._callback)]
        return [
            f"reply {at + 1}, step {number + 1}: {_name(step)}"
            for at, (faults, reply) in enumerate(self._groups)
            for number, step in enumerate([*faults, reply])
            if step is not None and (at, number) not in self._played
        ]


def directors(scripts: Script | Mapping[str, Script], model: str) -> dict[str, Director]:
    """By model name: `model` for a single script, `model:<name>` for each of several."""
    if isinstance(scripts, Mapping):
        several = cast("Mapping[str, Script]", scripts)
        return {f"{model}:{name}": Director(script) for name, script in several.items()}
    return {model: Director(scripts)}


def _name(step: Step | Callable[..., object]) -> str:
    return step.__name__ if inspect.isfunction(step) else repr(step)
