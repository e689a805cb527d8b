"""The scripted model of the demo: it decides from the conversation alone, and knows only what commands told it."""

import re
from collections.abc import Callable, Sequence

from activities.items import EXIT_NOT_RUN, EXIT_UNKNOWN
from examples.demo import tasks
from examples.demo.programs import ANALYSIS, HIGH, TIME, writing
from examples.scripted_model import Call, CallSpec, Conversation, Reply, say, shell

Plan = Sequence[Callable[[Conversation], Reply]]

_LOST = frozenset({EXIT_NOT_RUN, EXIT_UNKNOWN})
_TIMES = 3
"""How often a call is asked for before the script gives up on it."""


def script(conversation: Conversation) -> Reply:
    """The reply that is due: the next step of the plan for the newest message, or the same step again."""
    plan = _PLANS.get(conversation.last_user)
    if plan is None:
        return say("I am a script and know nothing but the three messages of the demo.")
    calls = conversation.turn_calls
    if calls and _lost(calls[-1]):
        return _again(calls)
    for call in calls:
        if not _lost(call) and not _succeeded(call):
            return say(f"I stop here. {_failure(call)}")
    done = sum(_succeeded(call) for call in calls)
    return plan[done](conversation)


def _lost(call: Call) -> bool:
    """Whether the engine says that the call's commands were not run, or that nobody knows."""
    # Chat Completions has no reserved codes: there, such a command has no exit code at all.
    return any(
        result.exit_code in _LOST or (result.exit_code is None and not result.timed_out) for result in call.results
    )


def _succeeded(call: Call) -> bool:
    return call.error is None and bool(call.results) and all(result.exit_code == 0 for result in call.results)


def _again(calls: Sequence[Call]) -> Reply:
    commands = calls[-1].commands
    if sum(call.commands == commands for call in calls) >= _TIMES:
        return say("I stop here: the same commands were lost again and again.")
    text = "The recovery report says what survived. What was not run I run again."
    return Reply(text=text, calls=(CallSpec(commands),))


def _failure(call: Call) -> str:
    if call.error is not None or not call.results:
        return f"A call could not be run: {call.error}"
    number, result = next(
        (number, result) for number, result in enumerate(call.results) if result.exit_code != 0 or result.timed_out
    )
    end = "took too long" if result.timed_out else f"ended with exit code {result.exit_code}"
    command = call.commands[number].splitlines()[0]
    return f"`{command}` {end}: {result.stderr.strip()[-300:]}"


# -- the first message: set up, analyse, report ------------------------------------------------------------------------


def _look(_: Conversation) -> Reply:
    return shell(f"ls -l {tasks.INBOX}", f"head -n 3 {tasks.CSV}", text="I look at what I was given.")


def _install(conversation: Conversation) -> Reply:
    listed = conversation.last_results[0].stdout
    wheel = re.search(rf"{tasks.PACKAGE}-\S+\.whl", listed)
    if wheel is None:
        return say(f"There is no wheel of {tasks.PACKAGE} in {tasks.INBOX}.")
    command = f"python3 -m pip install --no-index --root-user-action=ignore {tasks.INBOX}/{wheel.group()}"
    return shell(command, text="The wheel is there: I install it.")


def _settle(_: Conversation) -> Reply:
    return shell(f"mkdir -p {tasks.STUDY} && cd {tasks.STUDY}", f"export {tasks.VARIABLE}={tasks.CSV}")


def _analyse(_: Conversation) -> Reply:
    text = "I write the analysis and run it."
    return shell(writing("analysis.py", ANALYSIS), "python3 analysis.py", text=text)


def _report(conversation: Conversation) -> Reply:
    return say(f"The report is in {tasks.REPORT}. {_summary(conversation)}")


# -- the second message: a section more --------------------------------------------------------------------------------


def _high(_: Conversation) -> Reply:
    return shell(writing("high.py", HIGH), "python3 high.py", text="I add the section with the functions I have.")


def _high_told(conversation: Conversation) -> Reply:
    return say(f"The section is in the report. {_summary(conversation)}")


# -- the third message: is everything still there? ---------------------------------------------------------------------


def _still_there(_: Conversation) -> Reply:
    version = f"import importlib.metadata as m; print(m.version('{tasks.PACKAGE}'))"
    return shell("pwd", f"printenv {tasks.VARIABLE}", f'python3 -c "{version}"', "ls", text="I look before I answer.")


def _time(_: Conversation) -> Reply:
    return shell(
        writing("time_zones.py", TIME), "python3 time_zones.py", text="All of it is there. On to the time zones."
    )


def _time_told(conversation: Conversation) -> Reply:
    directory, variable, version, _ = (result.stdout.strip() for result in conversation.turn_calls[0].results)
    return say(
        f"I am in {directory}, {tasks.VARIABLE} is {variable}, and {tasks.PACKAGE} {version} is installed. "
        f"{_summary(conversation)}"
    )


def _summary(conversation: Conversation) -> str:
    """The sentence with which the program's output begins, under its title."""
    sentences = [line for line in conversation.last_results[-1].stdout.splitlines() if line and line[0] not in "#|"]
    return " ".join(sentences[:1]).rsplit(";", 1)[0] + "."


_PLANS: dict[str, Plan] = {
    tasks.FIRST: (_look, _install, _settle, _analyse, _report),
    tasks.SECOND: (_high, _high_told),
    tasks.THIRD: (_still_there, _time, _time_told),
}
