"""Function tools: schemas from typed functions, arguments and results checked against them."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import BaseModel, JsonValue, ValidationError
from temporalio.exceptions import ApplicationError

from activities.adapters.local_store import LocalStore
from activities.errors import ModelRejected, TranscriptDamaged
from activities.functions import FunctionBook, Functions
from activities.items import render
from activities.offered_tools import OfferedTools
from hibernaut.contracts import ToolResult
from hibernaut.errors import InvalidRequest
from hibernaut.models import AgentSpec
from hibernaut.models.functions import MAX_ARGUMENTS, FunctionSpec
from hibernaut.tools import FunctionTool, function_tool


class Customer(BaseModel):
    """A customer."""

    name: str
    orders: list[int] = []


@function_tool(task_queue="crm", retry_safe=True)
async def find_customer(name: str, limit: int = 3) -> Customer:
    """Find a customer by name."""
    return Customer(name=name, orders=list(range(limit)))


@function_tool(task_queue="crm", name="count", approval=True)
def count_letters(text: str) -> int:
    """Count letters."""
    return len(text)


def spec(**fields: object) -> FunctionSpec:
    return FunctionSpec.model_validate({"name": "f", "description": "d", "task_queue": "q", **fields})


def test_a_typed_function_becomes_a_tool() -> None:
    made = find_customer.spec
    assert (made.name, made.description, made.task_queue) == ("find_customer", "Find a customer by name.", "crm")
    assert (made.retry_safe, made.approval, count_letters.spec.approval) == (True, False, True)
    assert made.parameters["required"] == ["name"]
    assert made.result is not None
    assert AgentSpec(model="m", functions=(made, count_letters.spec)).functions[1].name == "count"
    assert count_letters("abc") == 3


@pytest.mark.parametrize(("tool", "given", "expected"), [
    (find_customer, {"name": "ada", "limit": 2}, {"name": "ada", "orders": [0, 1]}),
    (count_letters, {"text": "four"}, 4),
])  # fmt: skip
async def test_its_activity_takes_and_returns_json(
    tool: FunctionTool[..., object], given: dict[str, object], expected: object
) -> None:
    assert await tool.activity(given) == expected
    with pytest.raises(ApplicationError, match="do not fit"):
        await tool.activity({"other": 1})


def _silent(x: int) -> int:
    return x


def _many(*x: int) -> int:
    """Do it."""
    return len(x)


def test_functions_that_cannot_be_tools_are_refused() -> None:
    namespace: dict[str, Callable[..., int]] = {}
    exec("def untyped(x) -> int:\n    'Do it.'\n    return x", namespace)  # noqa: S102  # strict typing allows no other way
    wrongs: list[Callable[..., int]] = [namespace["untyped"], _silent, _many]
    for wrong in wrongs:
        with pytest.raises(InvalidRequest):
            function_tool(task_queue="q")(wrong)


@pytest.mark.parametrize("wrong", [
    {"name": "shell"}, {"name": "sleep"}, {"name": "a b"}, {"parameters": {"type": "string"}}, {"task_queue": ""},
])  # fmt: skip
def test_declarations_that_cannot_work_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        spec(**wrong)


def test_two_functions_of_one_name_are_refused() -> None:
    with pytest.raises(ValidationError, match="two functions named 'f'"):
        AgentSpec(model="m", functions=(spec(), spec()))


def test_arguments_are_checked() -> None:
    functions = Functions([find_customer.spec])
    assert functions.checked("find_customer", '{"name": "ada"}') == {"name": "ada"}
    for wrong, why in (
        ("{", "JSON"),
        ("[]", "object"),
        ('{"name": 1}', "name"),
        ("{}", "required"),
        (json.dumps({"name": "x" * MAX_ARGUMENTS}), "limit"),
        ("[" * 100_000, "limit"),
        ("[" * 900 + "]" * 900, "nested"),
        ('{"name": NaN}', "finite"),
        ('{"name": 1e400}', "finite"),
        ('{"name": 1' + "0" * 400 + "}", "63 bits"),
    ):
        with pytest.raises(ValueError, match=why):
            functions.checked("find_customer", wrong)


def test_a_schema_that_is_none_is_told_before_the_model_is_asked() -> None:
    with pytest.raises(ModelRejected, match="'f'"):
        Functions([spec(parameters={"type": "object", "properties": {"x": {"type": "nonsense"}}})])


def test_no_schema_reaches_out_of_itself() -> None:
    outside = {"type": "object", "properties": {"x": {"$ref": "http://127.0.0.1:9/secret.json"}}}
    with pytest.raises(ValueError, match="which is not in it"):
        Functions([spec(parameters=outside)]).checked("f", '{"x": 1}')


def test_the_engines_tools_and_functions_are_offered_together() -> None:
    offered = OfferedTools(("sleep",), Functions([count_letters.spec]))
    assert [tool["function"]["name"] for tool in offered.declarations()] == ["sleep", "count"]
    assert offered.checked("sleep", '{"seconds": 5}')["seconds"] == 5
    with pytest.raises(ValueError, match="seconds"):
        offered.checked("sleep", '{"seconds": -1}')


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path)


def _returned(output: JsonValue, function: str = "find_customer") -> ToolResult:
    return ToolResult(call_id="a", call_kind="function_call", output=output, function=function)


async def test_a_result_that_breaks_its_promise_is_told_as_such(store: LocalStore) -> None:
    functions = Functions([find_customer.spec])
    good, bad, none = await render(
        [
            _returned({"name": "ada", "orders": []}),
            _returned({"name": 7}),
            _returned(None, "gone"),
        ],
        store,
        functions,
    )  # fmt: skip
    assert json.loads(good["output"]) == {"name": "ada", "orders": []}
    told = json.loads(bad["output"])
    assert "its schema" in told["error"]
    assert json.loads(told["returned"]) == {"name": 7}
    assert json.loads(none["output"]) is None


async def test_functions_are_read_from_the_store(store: LocalStore) -> None:
    book = FunctionBook(store)
    assert (await book.functions(None)).names == ()
    await store.put("f", f"[{find_customer.spec.model_dump_json()}]".encode())
    assert (await book.functions("f")).names == ("find_customer",)
    with pytest.raises(TranscriptDamaged):
        await book.functions("missing")


def test_a_check_that_breaks_is_a_fault_and_no_crash() -> None:
    odd = spec(result={"type": "number", "multipleOf": 0.01})
    assert "cannot be checked" in (Functions([odd]).fault_of("f", 10**400) or "")
