"""The recovery report: an item of the conversation with a schema that is written down."""

import json
from pathlib import Path

from activities.adapters.local_store import LocalStore
from activities.adapters.tool_calls import FUNCTION_TOOL, tool_call
from activities.items import render
from hibernaut.contracts import Note
from hibernaut.models import OutcomeKind, RecoveryReport, ReplayedCommand

SCHEMA = Path(__file__).parents[2] / "docs" / "recovery-report.schema.json"


def _report(**fields: object) -> RecoveryReport:
    return RecoveryReport.model_validate(
        {"reason": "the container is gone", "generation": 2, "restored_snapshot": 7, **fields}
    )


def test_the_published_schema_is_the_models() -> None:
    assert json.loads(SCHEMA.read_text()) == RecoveryReport.model_json_schema(mode="serialization")


async def test_the_item_ends_with_the_report_as_json(tmp_path: Path) -> None:
    report = _report(replayed=(ReplayedCommand(command="make", kind=OutcomeKind.EXIT, exit_code=0),))
    (item,) = await render([Note(text=report.render(), report=report)], LocalStore(tmp_path))
    assert item["role"] == "developer"
    text = str(item["content"][0]["text"])
    assert text.startswith("[hibernaut] recovery report\n")
    assert RecoveryReport.model_validate_json(text.rsplit("\n", 1)[1]) == report


def test_a_restart_says_that_the_files_are_there() -> None:
    text = _report(how="restarted", restored_snapshot=None, uncertain_commands=("make",)).render()
    assert "The same computer was started again" in text
    assert "what they did inside, whole or in part, is there:\n  $ make" in text
    assert "fresh one from its image" not in text


def test_a_replay_is_told_with_its_end() -> None:
    text = _report(
        lost_commands=("pip install x", "date"),
        replayed=(ReplayedCommand(command="pip install x", kind=OutcomeKind.EXIT, exit_code=1),),
    ).render()
    assert "run again in this order:\n  $ pip install x -> exit 1" in text


def test_a_model_may_mark_a_function_call_as_safe_to_retry() -> None:
    assert "safe_to_retry" in FUNCTION_TOOL["function"]["parameters"]["properties"]
    for marked in (True, False):
        arguments = json.dumps({"commands": ["ls"], "safe_to_retry": marked})
        call = tool_call({"type": "function_call", "call_id": "c", "name": "shell", "arguments": arguments})
        assert call is not None
        assert call.retry_safe is marked
        assert call.error is None


def test_the_native_tool_has_no_such_argument() -> None:
    item = {"type": "shell_call", "call_id": "c", "action": {"commands": ["ls"], "safe_to_retry": True}}
    call = tool_call(item)
    assert call is not None
    assert call.retry_safe is False
    assert "safe_to_retry" not in item["action"]
