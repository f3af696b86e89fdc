"""What a change of a tool means to those who use it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from services.execution.model.tools import Tool
from services.execution.service.compatibility import Change, compared

LEAD: dict[str, Any] = {"type": "object", "properties": {"name": {"type": "string"}}}
INPUT: dict[str, Any] = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 20},
        "score": {"type": "number", "minimum": 0},
        "status": {"type": "string", "enum": ["NEW", "WON"]},
        "tags": {"type": "array", "items": {"type": "string"}},
        "lead": {"$ref": "#/$defs/lead"},
        "labels": {"type": "object", "additionalProperties": {"type": "string"}},
        "tree": {"$ref": "#/$defs/tree"},
    },
    "required": ["name"],
    "$defs": {"lead": LEAD, "tree": {"type": "object", "properties": {"children": {"$ref": "#/$defs/tree"}}}},
}
OUTPUT: dict[str, Any] = {
    "type": "object",
    "properties": {
        "n": {"type": "integer"},
        "kind": {"type": "string", "enum": ["a", "b"]},
        "any": {"anyOf": [{"type": "string", "enum": ["x", "y"]}, {"type": "null"}]},
    },
    "required": ["n"],
}
TOOL = Tool("grpc/crm/find", "find", "Find", "Finds.", INPUT, "1", output_schema=OUTPUT)


def changed(schema: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """The schema with another value at the path; without it for None."""
    name, _, rest = path.partition("/")
    if rest:
        return {**schema, name: changed(schema.get(name, {}), rest, value)}
    return {key: one for key, one in {**schema, name: value}.items() if one is not None}


@pytest.mark.parametrize(
    ("path", "value", "where"),
    [
        ("required", ["name", "score"], "input.score"),
        ("required", ["name", "who"], "input.who"),
        ("properties/tags", None, "input.tags"),
        ("properties/name/type", "integer", "input.name"),
        ("properties/name/maxLength", 10, "input.name"),
        ("properties/score/type", "integer", "input.score"),
        ("properties/score/minimum", 1, "input.score"),
        ("properties/score/maximum", 9, "input.score"),
        ("properties/status/enum", ["NEW"], "input.status"),
        ("properties/name/enum", ["Ada"], "input.name"),
        ("properties/tags/items/type", "integer", "input.tags[]"),
        ("properties/labels/additionalProperties", {"type": "integer"}, "input.labels.*"),
        ("properties/name/pattern", "^a", "input.name"),
        ("additionalProperties", False, "input"),
        ("$defs/lead/properties/name/type", "integer", "input.lead.name"),
        ("$defs/lead/required", ["name"], "input.lead.name"),
        ("$defs/tree/properties/children", {"type": "array"}, "input.tree.children"),
    ],
)
def test_what_breaks_callers(path: str, value: Any, where: str) -> None:
    change, differences = compared(TOOL, replace(TOOL, input_schema=changed(INPUT, path, value)))
    assert change is Change.BREAKING
    assert where in [one.path for one in differences if one.breaking]


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("required", None),
        ("properties/more", {"type": "string"}),
        ("properties/name/maxLength", 30),
        ("properties/name/maxLength", None),
        ("properties/score/minimum", -1),
        ("properties/name/type", ["string", "integer"]),
        ("properties/status/enum", ["NEW", "WON", "LOST"]),
        ("properties/status/enum", None),
        ("properties/name/description", "who"),
        ("$defs/lead/properties/more", {"type": "string"}),
    ],
)
def test_what_does_not(path: str, value: Any) -> None:
    change, differences = compared(TOOL, replace(TOOL, input_schema=changed(INPUT, path, value)))
    assert change is Change.COMPATIBLE
    assert differences


@pytest.mark.parametrize(
    ("path", "value", "breaks"),
    [
        ("properties/n", None, True),
        ("properties/n/type", "string", True),
        ("properties/n/type", ["integer", "null"], True),
        ("required", None, True),
        ("properties/more", {"type": "string"}, False),
        ("properties/kind/enum", ["a"], False),
        ("properties/kind/enum", ["a", "b", "c"], False),
        ("required", ["n", "kind"], None),
        ("properties/any", {"anyOf": [{"type": "string", "enum": ["x"]}, {"type": "integer"}]}, True),
        ("properties/any", {"anyOf": [{"type": "string", "enum": ["x", "y", "z"]}, {"type": "null"}]}, False),
        ("properties/any", {"anyOf": [{"type": "null"}]}, True),
    ],
)
def test_results(path: str, value: Any, breaks: bool | None) -> None:
    change, _ = compared(TOOL, replace(TOOL, output_schema=changed(OUTPUT, path, value)))
    expected = {True: Change.BREAKING, False: Change.COMPATIBLE, None: Change.UNCHANGED}
    assert change is expected[breaks]


def test_the_rest() -> None:
    assert compared(TOOL, TOOL) == (Change.UNCHANGED, ())
    assert compared(None, TOOL)[0] is Change.ADDED
    assert compared(TOOL, None)[0] is Change.REMOVED
    assert compared(TOOL, replace(TOOL, output_schema=None))[0] is Change.BREAKING
    assert compared(replace(TOOL, output_schema=None), TOOL)[0] is Change.COMPATIBLE
    assert compared(TOOL, replace(TOOL, description="Else."))[0] is Change.COMPATIBLE
    assert compared(TOOL, replace(TOOL, idempotent=True))[0] is Change.COMPATIBLE
    assert compared(TOOL, replace(TOOL, unusable=True, warning="broken"))[0] is Change.BREAKING
    renamed = changed(changed(INPUT, "$defs/person", LEAD), "properties/lead/$ref", "#/$defs/person")
    assert compared(TOOL, replace(TOOL, input_schema=renamed))[0] is Change.UNCHANGED
