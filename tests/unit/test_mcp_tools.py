"""A server's words are hostile input: what of its tools is offered, and how their results are told."""

import json
import logging

import pytest
from pydantic import JsonValue

from activities.items import message
from activities.mcp_notes import with_notes
from activities.mcp_pool import Offered
from activities.mcp_results import rendered
from activities.mcp_tools import MAX_DESCRIPTION, MAX_OFFERED, chosen, cleaned, usable
from activities.offered_tools import OfferedTools
from activities.ports.mcp import ListedTool, ToolAnswer
from activities.ports.model import Item
from activities.summary import text_of
from hibernaut.contracts import McpCallResult, McpOffer

OBJECT: dict[str, JsonValue] = {"type": "object"}


def listed(name: str, schema: dict[str, JsonValue] | None = None, description: str = "d") -> ListedTool:
    return ListedTool(name, description, schema or OBJECT)


def test_tools_are_declared_by_name_in_order() -> None:
    found = usable("s", [listed("b"), listed("a.x", description="")])
    assert list(found) == ["s__a_x", "s__b"]
    assert (found["s__a_x"].name, found["s__a_x"].spec.description) == ("a.x", "The tool a.x.")
    assert found["s__b"].spec.parameters == {"type": "object", "properties": {}}


@pytest.mark.parametrize(("tool", "why"), [
    (listed("x" * 70), "73 characters"),
    (listed("a", {"type": "string"}), "not of type object"),
    (listed("a", {"type": "object", "oneOf": [{}]}), "'oneOf' at the top"),
    (listed("a", {"type": "object", "properties": {"x": {"type": "nonsense"}}}), "no valid JSON Schema"),
    (listed("a", {"type": "object", "description": "x" * 40_000}), "limit is 32000"),
    (listed("a", {"type": "object", "minProperties": 10**30}), "63 bits"),
    (listed("a", {"type": "object", "$schema": 5}), "is no text"),
])  # fmt: skip
def test_a_tool_that_would_take_the_others_with_it_is_left_out(
    tool: ListedTool, why: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        assert list(usable("s", [tool, listed("good")])) == ["s__good"]
    assert why in caplog.text


def test_a_listing_that_takes_too_long_to_check_is_cut(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("activities.mcp_tools.MAX_CHECKING_S", -1.0)
    assert usable("s", [listed("a"), listed("b")]) == {}
    assert "from 'a' on are left out" in caplog.text


def test_neither_of_two_tools_of_one_name_is_taken_for_the_other() -> None:
    assert list(usable("s", [listed("a.b"), listed("a_b"), listed("c")])) == ["s__c"]


def test_a_schema_of_an_older_dialect_is_read_as_such() -> None:
    pair: dict[str, JsonValue] = {"type": "array", "items": [{"type": "number"}, {"type": "string"}]}
    schema: dict[str, JsonValue] = {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "type": "object",
        "properties": {"pair": pair},
    }
    functions = chosen([McpOffer(server="s")], {"s": usable("s", [listed("t", schema)])})
    assert functions.checked("s__t", '{"pair": [1, "a"]}')
    with pytest.raises(ValueError, match="not of type 'string'"):
        functions.checked("s__t", '{"pair": [1, 2]}')


def test_patterns_of_a_stranger_are_not_run() -> None:
    schema: dict[str, JsonValue] = {
        "type": "object",
        "properties": {"x": {"type": "string", "pattern": "^(a+)+$"}},
        "patternProperties": {"^(b+)+$": {"type": "string"}},
        "additionalProperties": False,
        "unevaluatedProperties": False,
    }
    functions = chosen([McpOffer(server="s")], {"s": usable("s", [listed("t", schema)])})
    assert functions.checked("s__t", json.dumps({"x": "a" * 60 + "!", "b" * 60 + "!": "y"}))
    with pytest.raises(ValueError, match="not of type"):
        functions.checked("s__t", '{"x": 1}')
    closed = chosen(
        [McpOffer(server="s")], {"s": usable("s", [listed("t", {**OBJECT, "additionalProperties": False})])}
    )
    with pytest.raises(ValueError, match="unexpected"):
        closed.checked("s__t", '{"y": 1}')


@pytest.mark.parametrize("above", [{}, {"unevaluatedItems": False}])
def test_references_that_fan_out_hold_nobody_up(above: dict[str, JsonValue]) -> None:
    deep: dict[str, JsonValue] = {
        f"d{number}": {"$ref": f"#/$defs/d{number + 1}", "$dynamicRef": f"#/$defs/d{number + 1}"}
        for number in range(60)
    }
    properties: dict[str, JsonValue] = {"x": {**above, "$ref": "#/$defs/d0"}}
    schema: dict[str, JsonValue] = {**OBJECT, "properties": properties, "$defs": {**deep, "d60": {}}}
    functions = chosen([McpOffer(server="s")], {"s": usable("s", [listed("t", schema)])})
    with pytest.raises(ValueError, match="SchemaTooCostly"):
        functions.checked("s__t", '{"x": []}')


def test_descriptions_hide_nothing_and_have_a_limit() -> None:
    assert cleaned("a\u202eb\u200bc\x1b[2K\n\td") == "abc[2K\n\td"
    assert len(cleaned("x" * 100_000)) == MAX_DESCRIPTION
    x: dict[str, JsonValue] = {"anyOf": [{"type": "string", "description": "a\u202eb\u200bc", "default": "\u200b"}]}
    found = usable("s", [listed("t", {**OBJECT, "properties": {"description": x}})])["s__t"].spec.parameters
    assert found["properties"] == {
        "description": {"anyOf": [{"type": "string", "description": "abc", "default": "\u200b"}]}
    }


def test_an_agent_is_offered_what_its_spec_allows_and_no_more_than_a_provider_takes(
    caplog: pytest.LogCaptureFixture,
) -> None:
    known = {"s": usable("s", [listed("a"), listed("b")]), "t": usable("t", [listed(f"n{n:03}") for n in range(200)])}
    assert chosen([McpOffer(server="s", tools=("b", "gone"))], known).names == ("s__b",)
    with caplog.at_level(logging.WARNING):
        assert len(chosen([McpOffer(server="s"), McpOffer(server="t")], known).names) == MAX_OFFERED
    assert "102 tools" in caplog.text
    offered = OfferedTools(("sleep",), chosen([McpOffer(server="s")], known))
    assert [tool["function"]["name"] for tool in offered.declarations()] == ["sleep", "s__a", "s__b"]
    assert offered.checked("s__a", "{}") == {}


def answered(*blocks: dict[str, JsonValue], structured: object = None, is_error: bool = False) -> McpCallResult:
    answer = ToolAnswer(blocks, structured, is_error)
    return rendered(answer, limit=2_000, hide=lambda text: text.replace("hunter2", "[redacted]"))


def text(said: str) -> dict[str, JsonValue]:
    return {"type": "text", "text": said}


IMAGE: dict[str, JsonValue] = {"type": "image", "mimeType": "image/png", "data": "eHh4eHh4"}
BLOB: dict[str, JsonValue] = {"type": "resource", "resource": {"uri": "f:///x", "mimeType": "a/b", "blob": "eHh4"}}
PAGE: dict[str, JsonValue] = {"type": "resource", "resource": {"uri": "f:///y", "text": "inside"}}
LINK: dict[str, JsonValue] = {"type": "resource_link", "name": "z", "uri": "f:///z", "size": 7}


@pytest.mark.parametrize(("result", "output"), [
    (answered(text("a"), text("b")), "a\nb"),
    (answered(), ""),
    (answered(text('{"n": 1}'), structured={"n": 1}), {"n": 1}),
    (answered(structured={"n": 1}), {"n": 1}),
    (answered(text("one"), structured={"n": 1}), {"text": "one", "structured": {"n": 1}}),
    (answered(text("hello"), structured={"result": "hello"}), "hello"),
    (answered(text("3"), structured={"result": 3}), 3),
    (answered(PAGE), "[f:///y]\ninside"),
    (answered(text("look"), IMAGE), {"text": "look", "left_out": ["image image/png 6 bytes"]}),
    (answered(BLOB, LINK), {"text": "", "left_out": ["resource f:///x a/b 3 bytes", "resource_link z f:///z 7 bytes"]}),
    (answered(text("pw hunter2")), "pw [redacted]"),
    (answered(structured={"pw": "hunter2"}), {"pw": "[redacted]"}),
    (answered(text("cut \ud83d")), "cut ?"),
])  # fmt: skip
def test_results_are_told_whole_or_it_is_said_what_is_missing(result: McpCallResult, output: JsonValue) -> None:
    assert (result.output, result.error) == (output, None)


@pytest.mark.parametrize("long", [text("é" * 3_000), text("\n" * 3_000), text("x" * 100_000)])
def test_what_is_too_long_is_told_by_its_beginning(long: dict[str, JsonValue]) -> None:
    result = answered(long)
    assert isinstance(result.output, dict)
    assert str(long["text"]).startswith(str(result.output["text"])[:50])
    assert "only its beginning" in str(result.output["cut"])
    assert 500 < len(json.dumps(result.output, ensure_ascii=False).encode()) <= 2_000


def test_failures_are_told_without_secrets() -> None:
    assert answered(text("hunter2 is wrong"), is_error=True).error == "[redacted] is wrong"
    assert answered(is_error=True).error == "it gave no reason"
    assert "63 bits" in (answered(structured={"n": 2**70}).error or "")


def test_the_model_hears_once_of_a_server_that_is_gone_and_once_that_it_is_back() -> None:
    nothing = Offered(chosen((), {}))
    gone = Offered(chosen((), {}), absent=("a",))
    back = Offered(chosen((), {}), present=("a",))
    asked: list[Item] = [message("user", "go")]
    assert with_notes([], asked, nothing) == asked
    assert with_notes([], asked, back) == asked
    first = with_notes([], asked, gone)
    assert len(first) == 2
    assert with_notes(first, asked, gone) == asked
    second = with_notes(first, asked, back)
    assert "offered again" in json.dumps(second)
    assert with_notes([*first, *second], asked, back) == asked
    assert len(with_notes([*first, *second], asked, gone)) == 2
    lacks = Offered(chosen((), {}), present=("a",), lacking=(("a", ("y", "z")), ("b", ())))
    third = with_notes([], asked, lacks)
    assert [text_of(item) for item in third[1:]] == [
        "[hibernaut] Tools meant for you that are not to be had of MCP server a: y, z. Go on without them."
    ]
    assert with_notes(third, asked, lacks) == asked
    whole = with_notes(third, asked, Offered(chosen((), {}), present=("a",), lacking=(("a", ()),)))
    assert text_of(whole[-1]).endswith("of MCP server a: none any more.")
    assert len(with_notes([*third, *whole], asked, lacks)) == 2
    # What a user says in the same words is not the engine's word.
    said = [message("user", str(first[1]["content"][0]["text"]))]
    assert len(with_notes(said, asked, gone)) == 2
