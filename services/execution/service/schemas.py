"""JSON Schemas of strangers, applied: nothing is fetched, and no pattern takes more than linear time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from itertools import islice
from typing import Any, Final

import jsonschema
import orjson
import re2
import referencing
import referencing.exceptions
from jsonschema.validators import extend

MOST_CHARACTERS: Final = 256 * 1024
DEEPEST: Final = 32
_MOST_REFERENCES: Final = 20_000
"""References that one check follows: a few that name each other are enough to never end."""
_LONGEST_PATTERN: Final = 1024
_REFERENCES: Final = ("$ref", "$dynamicRef", "$recursiveRef")
_NEWEST: Final = "https://json-schema.org/draft/2020-12/schema"

_left: ContextVar[int] = ContextVar("references left")


def validator(schema: Mapping[str, Any]) -> Any:
    """A jsonschema validator, for one check. Its registry is empty, for the default one fetches what `$ref` names from
    the network.
    """
    _left.set(_MOST_REFERENCES)
    return _VALIDATORS.get(_dialect(schema), _VALIDATORS[_NEWEST])(schema, registry=referencing.Registry())


def problems(schema: Mapping[str, Any], value: Any) -> list[jsonschema.ValidationError]:
    """Where a value does not fit; at most 20."""
    try:
        return list(islice(validator(schema).iter_errors(value), 20))
    except (RecursionError, referencing.exceptions.Unresolvable):
        return [jsonschema.ValidationError("the schema refers to what it does not have, or to itself without end")]


def problem_of(schema: Mapping[str, Any]) -> str | None:
    """Why a schema that came with a request cannot be applied. Those of Registry were looked at there."""
    if len(orjson.dumps(schema)) > MOST_CHARACTERS:
        return f"has more than {MOST_CHARACTERS} characters"
    if not isinstance(schema.get("$schema", ""), str) or _dialect(schema) not in _VALIDATORS:
        return f"$schema is none of {', '.join(_VALIDATORS)}"
    if schema.get("type") != "object":
        return 'must describe an object ("type": "object")'
    if problem := next(_problems_of_parts(schema, 1), None):
        return problem
    try:
        _VALIDATORS[_dialect(schema)].check_schema(dict(schema))
    except jsonschema.SchemaError as error:
        return f"is not a JSON Schema: {error.message[:200]}"
    except (RecursionError, OverflowError):
        return "is not a JSON Schema that can be checked"
    return None


def _dialect(schema: Mapping[str, Any]) -> str:
    """Draft 2020-12 where none is named; http and an empty fragment are other ways to write the same."""
    named = str(schema.get("$schema") or _NEWEST).removesuffix("#")
    return named.replace("http://", "https://", 1)


def _problems_of_parts(part: Any, depth: int) -> Iterator[str]:
    if depth > DEEPEST and isinstance(part, Mapping | list):
        yield f"is nested deeper than {DEEPEST}"
        return
    if isinstance(part, Mapping):
        for keyword in _REFERENCES:
            if isinstance(target := part.get(keyword), str) and not target.startswith("#"):
                yield f"{keyword} refers to another document"
        patterns = part.get("patternProperties")
        named = [*patterns] if isinstance(patterns, Mapping) else []
        for pattern in (*named, part.get("pattern")):
            if isinstance(pattern, str) and not _is_pattern(pattern):
                yield f"{pattern[:60]!r} is not a regular expression of RE2"
    for inner in part.values() if isinstance(part, Mapping) else part if isinstance(part, list) else ():
        yield from _problems_of_parts(inner, depth + 1)


def _is_pattern(pattern: str) -> bool:
    options = re2.Options()
    options.log_errors = False
    try:
        re2.compile(pattern, options)
    except (re2.error, ValueError):
        return False
    return len(pattern) <= _LONGEST_PATTERN


def _followed(keyword: str, follow: Any) -> Any:
    def check(validator: Any, reference: Any, instance: Any, schema: Any) -> Iterator[jsonschema.ValidationError]:
        left = _left.get(_MOST_REFERENCES)
        _left.set(left - 1)
        if left <= 0:
            yield jsonschema.ValidationError(f"{keyword}: the schema is too heavy to be checked")
        else:
            yield from follow(validator, reference, instance, schema)

    return check


def _pattern(_: Any, pattern: str, instance: Any, schema: Any) -> Iterator[jsonschema.ValidationError]:
    if isinstance(instance, str) and not re2.search(pattern, instance):
        yield jsonschema.ValidationError(f"{instance!r} does not match {pattern!r}")


def _pattern_properties(
    validator: Any, patterns: Mapping[str, Any], instance: Any, schema: Any
) -> Iterator[jsonschema.ValidationError]:
    if not isinstance(instance, dict):
        return
    for pattern, inner in patterns.items():
        for key, value in instance.items():
            if re2.search(pattern, key):
                yield from validator.descend(value, inner, path=key, schema_path=pattern)


def _additional_properties(
    validator: Any, allowed: Any, instance: Any, schema: Mapping[str, Any]
) -> Iterator[jsonschema.ValidationError]:
    if not isinstance(instance, dict):
        return
    patterns = list(schema.get("patternProperties", {}))
    for key, value in instance.items():
        if key in schema.get("properties", {}) or any(re2.search(pattern, key) for pattern in patterns):
            continue
        if isinstance(allowed, Mapping):
            yield from validator.descend(value, allowed, path=key)
        elif allowed is False:
            yield jsonschema.ValidationError(f"Additional properties are not allowed ({key!r} was unexpected)")


def _bounded(dialect: Any) -> Any:
    keywords: dict[str, Any] = {
        "pattern": _pattern,
        "patternProperties": _pattern_properties,
        "additionalProperties": _additional_properties,
    }
    for keyword in _REFERENCES:
        if keyword in dialect.VALIDATORS:
            keywords[keyword] = _followed(keyword, dialect.VALIDATORS[keyword])
    return extend(dialect, keywords)  # type: ignore[no-untyped-call]


_VALIDATORS: Final[Mapping[str, Any]] = {
    _NEWEST: _bounded(jsonschema.Draft202012Validator),
    "https://json-schema.org/draft/2019-09/schema": _bounded(jsonschema.Draft201909Validator),
    "https://json-schema.org/draft-07/schema": _bounded(jsonschema.Draft7Validator),
}
