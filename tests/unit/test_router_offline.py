from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from services.router.gateways import offline
from services.router.model import FinishReason

CALCULATOR = {
    "type": "function",
    "function": {
        "name": "builtin_calculator",
        "parameters": {"type": "object", "properties": {"expression": {"type": "string"}}, "required": ["expression"]},
    },
}


def said(text: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": text}]


@pytest.mark.parametrize(
    ("text", "expression"),
    [
        ("What is 17 * 23?", "17 * 23"),
        ("(2+3)*4", "(2+3)*4"),
        ("Please tell me (2+3)*4.", "(2+3)*4"),
        ("17 times 23", "17 * 23"),
        ("2.5 / 5, please", "2.5 / 5"),
        ("-3 + 4 is what", "-3 + 4"),
        ("6 × 7", "6 * 7"),
        ("Hello", None),
        ("I am 42", None),
        ("On 2026-11-21 we met", None),
        ("Room 4 (2 + 2)", None),
        ("1 +", None),
        ("((1)", None),
    ],
)
def test_arithmetic(text: str, expression: str | None) -> None:
    assert offline.arithmetic(text) == expression


@pytest.mark.timeout(30)
@pytest.mark.parametrize("text", ["(" * 200_000, "1+" * 100_000 + "1", "((((1+1" * 50_000, "-" * 200_000])
def test_arithmetic_of_a_hostile_text_is_quick(text: str) -> None:
    offline.arithmetic(text)


def test_calculator_is_called() -> None:
    answer = offline.answer(said("What is 17 * 23?"), [CALCULATOR], "auto", None)
    assert [(c.name, json.loads(c.arguments)) for c in answer.calls] == [
        ("builtin_calculator", {"expression": "17 * 23"})
    ]
    assert answer.finish_reason is FinishReason.TOOL_CALLS


@pytest.mark.parametrize(("tools", "choice"), [([], "auto"), ([CALCULATOR], "none")])
def test_no_call_without_leave(tools: list[Any], choice: str) -> None:
    answer = offline.answer(said("What is 17 * 23?"), tools, choice, None)
    assert not answer.calls
    assert "offline model" in answer.text
    assert "What is 17 * 23?" in answer.text


def test_named_tool_is_called() -> None:
    schema = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
    other = {"type": "function", "function": {"name": "weather", "parameters": schema}}
    choice = {"type": "function", "function": {"name": "weather"}}
    answer = offline.answer(said("What is 1 + 1?"), [CALCULATOR, other], choice, None)
    assert [(c.name, json.loads(c.arguments)) for c in answer.calls] == [("weather", {"city": "offline"})]


def test_calls_that_are_written_out_are_made_in_their_order() -> None:
    tools = [{"type": "function", "function": {"name": name}} for name in ("find", "count_all", "other")]
    asked = said('First find({"name": "Ann (1 + 1)"}), then unknown(), xfind({}) and count_all(), then find(nothing.')
    expected = [("find", {"name": "Ann (1 + 1)"}), ("count_all", {}), ("find", {})]
    for name, arguments in expected:
        (call,) = offline.answer(asked, tools, "auto", None).calls
        assert (call.name, json.loads(call.arguments)) == (name, arguments)
        asked += [{"role": "assistant"}, {"role": "tool", "content": f"{name}!"}]
    assert offline.answer(asked, tools, "required", None) == offline.Answer("The result is find!, count_all!, find!.")


@pytest.mark.timeout(30)
@pytest.mark.parametrize("text", ["find(" * 50_000, "find(" + "[" * 200_000, "a" * 200_000])
def test_calls_of_a_hostile_text_are_found_quickly(text: str) -> None:
    offline.written(text, ["find"])


def test_result_of_a_tool_is_told() -> None:
    messages = [*said("What is 17 * 23?"), {"role": "assistant"}, {"role": "tool", "content": "391"}]
    answer = offline.answer(messages, [CALCULATOR], "required", None)
    assert (answer.text, answer.calls) == ("The result is 391.", ())


def test_long_text_is_clipped() -> None:
    assert len(offline.answer(said("x" * 10_000), [], "auto", None).text) < 400


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object"},
        {"type": "object", "properties": {"a": {"type": "string", "minLength": 20}}, "required": ["a"]},
        {
            "type": "object",
            "required": ["n", "i", "b", "e", "l", "o", "z", "d", "u", "r"],
            "properties": {
                "n": {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1},
                "i": {"type": "integer", "minimum": 1.5},
                "b": {"type": "boolean"},
                "e": {"enum": ["red", "green"]},
                "l": {"type": "array", "items": {"type": "integer", "maximum": -2}, "minItems": 2},
                "o": {"type": "object", "properties": {"x": {"const": 3}}, "required": ["x"]},
                "z": {"type": ["null", "string"]},
                "d": {"type": "string", "format": "date"},
                "u": {"anyOf": [{"type": "string", "maxLength": 3}, {"type": "null"}]},
                "r": {"$ref": "#/$defs/thing"},
            },
            "$defs": {"thing": {"type": "object", "properties": {"y": {"type": "number"}}, "required": ["y"]}},
        },
    ],
)
def test_json_schema_answer_fits(schema: dict[str, Any]) -> None:
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    jsonschema.validate(json.loads(offline.answer(said("hello"), [], "auto", form).text), schema)


def test_endless_schema_ends() -> None:
    endless = {"type": "array", "minItems": 9, "items": {"$ref": "#"}}
    assert offline.example(endless)
    assert offline.example({"$ref": "#"}) is None


def test_litellm_is_not_imported_before_it_is_needed() -> None:
    code = (
        "import sys, services.router.service, services.router.model, services.router.servicer, services.router.app\n"
        "sys.exit('litellm' in sys.modules)"
    )
    root = Path(__file__).parents[2]
    assert subprocess.run([sys.executable, "-c", code], cwd=root, check=False).returncode == 0


def reaching(name: str, **properties: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "parameters": {"type": "object", "properties": properties}}}


DELEGATE = reaching("delegate_task_to_member", member_id={"enum": ["writer", "co-writer"]}, task={"type": "string"})
ASK = reaching("ask_my_expert", input={"type": "string"})
TRANSFER = reaching("transfer_to_billing", reason={"type": "string"})


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("The co-writer and the writer", ["co-writer", "writer"]),
        ("The Writer.", ["writer"]),
        ("the co-writers, a copywriter", []),
        ("my-expert, please", ["ask_my_expert"]),
        ("give it to billing", ["transfer_to_billing"]),
        ("hello", []),
    ],
)
def test_others_are_asked_whom_the_request_names(text: str, named: list[str]) -> None:
    answer = offline.answer(said(text), [DELEGATE, ASK, TRANSFER], "auto", None)
    asked = [(call.name, json.loads(call.arguments)) for call in answer.calls]
    assert [arguments.get("member_id", name) for name, arguments in asked] == named
    assert len({call.call_id for call in answer.calls}) == len(named)
    assert all(arguments.get("task", arguments.get("input", text)) == text for _, arguments in asked)
    assert offline.answer(said(text), [DELEGATE, ASK, TRANSFER], "none", None).calls == ()


def test_one_after_the_other() -> None:
    messages = said("the writer, then my-expert")
    names = []
    while calls := offline.answer(messages, [DELEGATE, ASK], "auto", None).calls:
        names += [call.name for call in calls]
        messages.append({"role": "assistant", "content": "", "tool_calls": [{"id": call.call_id} for call in calls]})
        messages += [{"role": "tool", "content": f"{call.name} was here"} for call in calls]
    assert names == ["delegate_task_to_member", "ask_my_expert"]
    assert (
        offline.answer(messages, [DELEGATE, ASK], "auto", None).text
        == "The result is delegate_task_to_member was here, ask_my_expert was here."
    )
