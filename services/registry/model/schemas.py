"""JSON Schemas that callers bring along: valid, closed in themselves, and of a bounded cost for who applies them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final
from urllib.parse import unquote

import jsonschema

from libs.errors import Violation
from services.registry.model import Spec
from services.registry.model.patterns import problem_of_pattern

DEEPEST: Final = 32
HEAVIEST: Final = 10_000
"""Most schemas that may hold for one value at once, references followed."""

_NEWEST: Final = "https://json-schema.org/draft/2020-12/schema"
_DIALECTS: Final[Mapping[str, Any]] = {
    _NEWEST: jsonschema.Draft202012Validator,
    "https://json-schema.org/draft/2019-09/schema": jsonschema.Draft201909Validator,
    "https://json-schema.org/draft-07/schema": jsonschema.Draft7Validator,
}
_REFERENCES: Final = ("$ref", "$dynamicRef", "$recursiveRef")
_COMBINED: Final = ("allOf", "anyOf", "oneOf")
_NESTED: Final = ("not", "if", "then", "else")


def check_schema(schema: Spec, field: str, *, of_object: bool = False) -> list[Violation]:
    problem = _problem_of_schema(schema)
    if problem:
        return [Violation(field, problem)]
    if of_object and schema.get("type") != "object":
        return [Violation(field, 'must describe an object ("type": "object")')]
    return []


def _problem_of_schema(schema: Spec) -> str | None:
    if not isinstance(schema.get("$schema", ""), str):
        return "is not a JSON Schema: $schema is not a text"
    if _dialect(schema) not in _DIALECTS:
        return f"/$schema: {schema['$schema'][:200]!r} is none of the dialects {', '.join(_DIALECTS)}"
    return next(_problems_of_parts(schema, "", 1), None) or _problem_of_form(schema) or _problem_of_references(schema)


def _dialect(schema: Spec) -> str:
    """Draft 2020-12 where none is named; http and an empty fragment are other ways to write the same."""
    named = str(schema.get("$schema") or _NEWEST).removesuffix("#")
    return named.replace("http://", "https://", 1)


def _problem_of_form(schema: Spec) -> str | None:
    try:
        _DIALECTS[_dialect(schema)].check_schema(dict(schema))
    except jsonschema.SchemaError as error:
        return f"is not a JSON Schema: {error.message[:200]}"
    except (RecursionError, OverflowError):
        return "is not a JSON Schema that can be checked"
    return None


def _problems_of_parts(part: Any, path: str, depth: int) -> Iterator[str]:
    """Every part is looked at, wherever it stands: a reference may make a schema of any of them."""
    if depth > DEEPEST and isinstance(part, Mapping | list):
        yield f"is nested deeper than {DEEPEST}"
    elif isinstance(part, list):
        for index, inner in enumerate(part):
            yield from _problems_of_parts(inner, f"{path}/{index}", depth + 1)
    elif isinstance(part, Mapping):
        yield from _problems_of_keywords(part, path)
        for key, inner in part.items():
            yield from _problems_of_parts(inner, f"{path}/{key}", depth + 1)


def _problems_of_keywords(part: Spec, path: str) -> Iterator[str]:
    for keyword in _REFERENCES:
        if isinstance(target := part.get(keyword), str) and not target.startswith("#"):
            yield f"{path}/{keyword}: refers to another document"
    for keyword in ("$id", "$schema"):
        if path and isinstance(part.get(keyword), str):
            yield f"{path}/{keyword}: only the whole schema may have one"
    for pattern in _patterns(part):
        if problem := problem_of_pattern(pattern):
            yield f"{path}: {pattern[:60]!r} {problem}"


def _patterns(part: Spec) -> Iterator[str]:
    if isinstance(part.get("pattern"), str):
        yield part["pattern"]
    if isinstance(part.get("patternProperties"), Mapping):
        yield from part["patternProperties"]


def _problem_of_references(schema: Spec) -> str | None:
    scales = _Scales(schema)
    try:
        if any(scales.weight(part) > HEAVIEST for part in _parts(schema)):
            return f"has more than {HEAVIEST} schemas for one value"
    except KeyError as error:
        return f"refers to {str(error.args[0])[:200]}, which it does not have"
    except RecursionError:
        return f"refers to itself without end, or follows more than {DEEPEST} references for one value"
    return None


def _parts(part: Any) -> Iterator[Spec]:
    if isinstance(part, Mapping):
        yield part
    inner = part.values() if isinstance(part, Mapping) else part if isinstance(part, list) else ()
    for each in inner:
        yield from _parts(each)


class _Scales:
    """Weighs schemas: how many of them hold for the same value."""

    def __init__(self, schema: Spec) -> None:
        self._schema = schema
        self._weights: dict[int, int] = {}
        self._anchors = {
            part[keyword]: part
            for part in _parts(schema)
            for keyword in ("$anchor", "$dynamicAnchor")
            if isinstance(part.get(keyword), str)
        }

    def weight(self, part: Any, depth: int = 1) -> int:
        if not isinstance(part, Mapping):
            return 1
        if depth > DEEPEST:
            raise RecursionError
        if id(part) not in self._weights:
            self._weights[id(part)] = 1 + sum(self.weight(inner, depth + 1) for inner in self._same_value(part))
        return self._weights[id(part)]

    def _same_value(self, part: Spec) -> Iterator[Any]:
        for keyword in _REFERENCES:
            if isinstance(part.get(keyword), str):
                yield self._target(part[keyword])
        for keyword in _COMBINED:
            if isinstance(part.get(keyword), list):
                yield from part[keyword]
        yield from (part[keyword] for keyword in _NESTED if keyword in part)
        if isinstance(part.get("dependentSchemas"), Mapping):
            yield from part["dependentSchemas"].values()

    def _target(self, reference: str) -> Any:
        pointer = unquote(reference[1:])
        if pointer and not pointer.startswith("/"):
            return _inner(self._anchors, pointer, reference)
        found: Any = self._schema
        for name in pointer.split("/")[1:]:
            found = _inner(found, name.replace("~1", "/").replace("~0", "~"), reference)
        return found


def _inner(part: Any, name: str, reference: str) -> Any:
    if isinstance(part, Mapping) and name in part:
        return part[name]
    if isinstance(part, list) and name.isdecimal() and len(name) < 10 and int(name) < len(part):
        return part[int(name)]
    raise KeyError(reference)
