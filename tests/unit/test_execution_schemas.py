from __future__ import annotations

from typing import Any

import jsonschema
import pytest

from services.execution.service import outputs, schemas

DRAFT_7 = "http://json-schema.org/draft-07/schema#"


def nested(depth: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "object"}
    for _ in range(depth):
        schema = {"type": "object", "properties": {"a": schema}}
    return schema


def exploding(levels: int) -> dict[str, Any]:
    """Each level holds the next one twice."""
    defs: dict[str, Any] = {f"l{n}": {"allOf": [{"$ref": f"#/$defs/l{n + 1}"}] * 2} for n in range(levels)}
    return {"type": "object", "$defs": {**defs, f"l{levels}": {}}, "$ref": "#/$defs/l0"}


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object"},
        {"type": "object", "$schema": DRAFT_7},
        {"type": "object", "$schema": "https://json-schema.org/draft/2019-09/schema"},
        {"type": "object", "$defs": {"a": {"pattern": "^a+$"}}, "properties": {"a": {"$ref": "#/$defs/a"}}},
        {"type": "object", "properties": {"pattern": {"type": "string"}}},
        nested(15),
        exploding(30),
    ],
)
def test_schemas_that_are_taken(schema: dict[str, Any]) -> None:
    assert schemas.problem_of(schema) is None


@pytest.mark.parametrize(
    "schema",
    [
        {},
        {"type": "array"},
        {"type": "object", "$schema": "https://example.com/own"},
        {"type": "object", "$schema": 7},
        {"type": "object", "required": "a"},
        {"type": "object", "$ref": "https://example.com/schema"},
        {"type": "object", "properties": {"a": {"$dynamicRef": "other.json#a"}}},
        {"type": "object", "properties": {"a": {"pattern": "(?<=a)b"}}},
        {"type": "object", "patternProperties": {"(a": {}}},
        {"type": "object", "properties": {"a": {"pattern": "a" * 1025}}},
        {"type": "object", "description": "x" * schemas.MOST_CHARACTERS},
        nested(40),
    ],
)
def test_schemas_that_are_refused(schema: dict[str, Any]) -> None:
    assert schemas.problem_of(schema)


def test_schema_that_would_never_end_is_too_heavy() -> None:
    with pytest.raises(jsonschema.ValidationError, match="too heavy"):
        schemas.validator(exploding(40)).validate({})
    assert len(schemas.problems(exploding(40), {})) == 20
    with pytest.raises(outputs.Unfit):
        outputs.parsed("{}", exploding(40))
    schemas.validator(exploding(3)).validate({})


def test_dialect_is_that_of_the_schema() -> None:
    """In draft 7 what stands beside a $ref says nothing."""
    schema = {"properties": {"a": {"$ref": "#/definitions/any", "type": "string"}}, "definitions": {"any": {}}}
    assert schemas.problems(schema, {"a": 1})
    assert schemas.problems({**schema, "$schema": DRAFT_7}, {"a": 1}) == []
    assert schemas.problems({**schema, "$schema": "https://json-schema.org/draft-07/schema"}, {"a": 1}) == []


@pytest.mark.parametrize("schema", [{"$ref": "#"}, {"$ref": "#/$defs/none"}])
def test_schema_that_cannot_be_applied_is_a_problem(schema: dict[str, Any]) -> None:
    assert schemas.problems(schema, {})
    with pytest.raises(outputs.Unfit):
        outputs.parsed("{}", schema)


@pytest.mark.parametrize("text", ['{"a": 1}', '```json\n{"a": 1}\n```', '  ```\n{"a": 1}```  '])
def test_markdown_around_json_is_forgiven(text: str) -> None:
    assert outputs.parsed(text, {"required": ["a"]}) == {"a": 1}
