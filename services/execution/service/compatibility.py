"""What a change of a tool means to those who use it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from services.execution.model.tools import Tool

_MOST: Final = 100
_DEEPEST: Final = 32
_LOWER: Final = ("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties")
_UPPER: Final = ("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties")
_READ: Final = {
    *_LOWER,
    *_UPPER,
    *("type", "enum", "properties", "required", "additionalProperties", "items", "$ref", "$defs"),
    *("title", "description", "examples", "default", "deprecated", "$schema", "$comment", "$id"),
}
_CHOICES: Final = {"anyOf", "oneOf", "allOf"}
_PROSE: Final = ("title", "description")
_ALL: Final = frozenset({"object", "array", "string", "number", "integer", "boolean", "null"})


class Change(StrEnum):
    UNCHANGED = "unchanged"
    ADDED = "added"
    COMPATIBLE = "compatible"
    BREAKING = "breaking"
    REMOVED = "removed"


@dataclass(frozen=True, slots=True)
class Difference:
    path: str
    description: str
    breaking: bool = True


def compared(before: Tool | None, now: Tool | None) -> tuple[Change, Sequence[Difference]]:
    if now is None:
        return Change.REMOVED, ()
    if before is None:
        return Change.ADDED, ()
    found = [difference for _, difference in zip(range(_MOST), _differences(before, now), strict=False)]
    if not found:
        return Change.UNCHANGED, ()
    breaking = any(difference.breaking for difference in found)
    return (Change.BREAKING if breaking else Change.COMPATIBLE), found


def _differences(before: Tool, now: Tool) -> Iterator[Difference]:
    if now.unusable and not before.unusable:
        yield Difference("input", f"cannot be called any more: {now.warning}")
    yield from _Inputs(before.input_schema, now.input_schema).all("input")
    yield from _of_outputs(before.output_schema, now.output_schema)
    for name in _PROSE:
        if getattr(before, name) != getattr(now, name):
            yield Difference(name, "is another text", breaking=False)
    for name in ("read_only", "idempotent", "destructive", "open_world"):
        if getattr(before, name) != getattr(now, name):
            yield Difference(name, f"was {getattr(before, name)}, is {getattr(now, name)}".lower(), breaking=False)


def _of_outputs(before: Mapping[str, Any] | None, now: Mapping[str, Any] | None) -> Iterator[Difference]:
    if before is not None and now is not None:
        yield from _Outputs(before, now).all("output")
    elif before is not None:
        yield Difference("output", "has no schema any more")
    elif now is not None:
        yield Difference("output", "has a schema", breaking=False)


class _Schemas:
    """Walks two schemas side by side. A pair of references is walked once."""

    def __init__(self, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
        self._before, self._now = before, now
        self._walked: set[tuple[str, str]] = set()

    def all(self, path: str) -> Iterator[Difference]:
        yield from self._pair(self._before, self._now, path, 0)

    def _pair(self, before: Any, now: Any, path: str, depth: int) -> Iterator[Difference]:
        if before == now and not _refers(before):
            return
        pair = (str(_named(before)), str(_named(now)))
        if any(pair) and pair in self._walked:
            return
        self._walked.add(pair)
        before, now = _resolved(self._before, before), _resolved(self._now, now)
        if depth > _DEEPEST or not isinstance(before, Mapping) or not isinstance(now, Mapping):
            if before != now:
                yield Difference(path, "has a schema that differs")
            return
        yield from self._types(before, now, path)
        yield from self._properties(before, now, path, depth)
        if "items" in before or "items" in now:
            yield from self._pair(before.get("items", {}), now.get("items", {}), f"{path}[]", depth + 1)
        additional = (before.get("additionalProperties", {}), now.get("additionalProperties", {}))
        if all(isinstance(one, Mapping) for one in additional):
            yield from self._pair(*additional, f"{path}.*", depth + 1)
        for keyword in sorted({*before, *now} & _CHOICES):
            yield from self._choices(before.get(keyword), now.get(keyword), path, depth)
        for keyword in sorted({*before, *now} - _READ - _CHOICES):
            if before.get(keyword) != now.get(keyword):
                yield Difference(path, f"{keyword} differs, which this check cannot weigh")
        for keyword in _PROSE:
            if depth and before.get(keyword) != now.get(keyword):
                yield Difference(path, f"has another {keyword}", breaking=False)

    def _choices(self, before: Any, now: Any, path: str, depth: int) -> Iterator[Difference]:
        if isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
            for old, new in zip(before, now, strict=True):
                yield from self._pair(old, new, path, depth + 1)
        elif before != now:
            yield Difference(path, "has other alternatives, which this check cannot weigh")

    def _types(self, before: Mapping[str, Any], now: Mapping[str, Any], path: str) -> Iterator[Difference]:
        raise NotImplementedError

    def _properties(
        self, before: Mapping[str, Any], now: Mapping[str, Any], path: str, depth: int
    ) -> Iterator[Difference]:
        raise NotImplementedError


class _Inputs(_Schemas):
    """What was accepted must be accepted."""

    def _types(self, before: Mapping[str, Any], now: Mapping[str, Any], path: str) -> Iterator[Difference]:
        if lost := _types(before) - _types(now):
            yield Difference(path, f"is not {' or '.join(sorted(lost))} any more")
        elif won := _types(now) - _types(before):
            yield Difference(path, f"may be {' or '.join(sorted(won))} too", breaking=False)
        yield from _enums(before, now, path, "does not take {} any more", "takes {} too", narrower_breaks=True)
        for keyword in (*_LOWER, *_UPPER):
            if before.get(keyword) == now.get(keyword):
                continue
            tighter = _is_tighter(keyword, before.get(keyword), now.get(keyword))
            said = f"{keyword} was {before.get(keyword, 'unset')}, is {now.get(keyword, 'unset')}"
            yield Difference(path, said, breaking=tighter)
        if before.get("additionalProperties") is not False and now.get("additionalProperties") is False:
            yield Difference(path, "takes no other properties any more")

    def _properties(
        self, before: Mapping[str, Any], now: Mapping[str, Any], path: str, depth: int
    ) -> Iterator[Difference]:
        old, new = _properties(before), _properties(now)
        required = set(now.get("required", ())) - set(before.get("required", ()))
        for name in sorted({*old, *new, *required}):
            inner = f"{path}.{name}"
            if name in required:
                yield Difference(inner, "is required now")
            if name in old and name not in new:
                yield Difference(inner, "is not there any more")
            elif name in new and name not in old and name not in required:
                yield Difference(inner, "is new", breaking=False)
            elif name in old and name in new:
                yield from self._pair(old[name], new[name], inner, depth + 1)
        for name in sorted(set(before.get("required", ())) - set(now.get("required", ()))):
            if name in new:
                yield Difference(f"{path}.{name}", "is not required any more", breaking=False)


class _Outputs(_Schemas):
    """What was there must be there."""

    def _types(self, before: Mapping[str, Any], now: Mapping[str, Any], path: str) -> Iterator[Difference]:
        if won := _types(now) - _types(before):
            yield Difference(path, f"may be {' or '.join(sorted(won))} now")
        elif lost := _types(before) - _types(now):
            yield Difference(path, f"is never {' or '.join(sorted(lost))} now", breaking=False)
        yield from _enums(before, now, path, "is never {} now", "may be {} too", narrower_breaks=False)

    def _properties(
        self, before: Mapping[str, Any], now: Mapping[str, Any], path: str, depth: int
    ) -> Iterator[Difference]:
        old, new = _properties(before), _properties(now)
        optional = set(before.get("required", ())) - set(now.get("required", ()))
        for name in sorted({*old, *new}):
            inner = f"{path}.{name}"
            if name not in new:
                yield Difference(inner, "is not there any more")
            elif name not in old:
                yield Difference(inner, "is new", breaking=False)
            else:
                if name in optional:
                    yield Difference(inner, "may be missing now")
                yield from self._pair(old[name], new[name], inner, depth + 1)


def _enums(
    before: Mapping[str, Any], now: Mapping[str, Any], path: str, less: str, more: str, *, narrower_breaks: bool
) -> Iterator[Difference]:
    old, new = before.get("enum"), now.get("enum")
    if old == new:
        return
    gone = ["some values"] if old is None else [str(one) for one in old if new is not None and one not in new]
    come = ["any value"] if new is None else [str(one) for one in new if old is not None and one not in old]
    if gone:
        yield Difference(path, less.format(", ".join(gone[:10])), breaking=narrower_breaks)
    if come:
        yield Difference(path, more.format(", ".join(come[:10])), breaking=False)


def _is_tighter(keyword: str, before: Any, now: Any) -> bool:
    if now is None or before is None:
        return now is not None
    return bool(now > before) if keyword in _LOWER else bool(now < before)


def _types(schema: Mapping[str, Any]) -> frozenset[str]:
    named = schema.get("type")
    types = frozenset([named] if isinstance(named, str) else named or _ALL)
    return types | {"integer"} if "number" in types else types


def _properties(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    found = schema.get("properties", {})
    return found if isinstance(found, Mapping) else {}


def _named(schema: Any) -> Any:
    return schema.get("$ref", "") if isinstance(schema, Mapping) else ""


def _refers(schema: Any) -> bool:
    """Equal parts may name what is not equal."""
    if isinstance(schema, Mapping):
        return "$ref" in schema or any(map(_refers, schema.values()))
    return isinstance(schema, list) and any(map(_refers, schema))


def _resolved(root: Mapping[str, Any], schema: Any) -> Any:
    for _ in range(_DEEPEST):
        if not isinstance(named := _named(schema), str) or not named.startswith("#"):
            return schema
        found: Any = root
        for part in filter(None, named[1:].split("/")):
            found = found.get(part.replace("~1", "/").replace("~0", "~")) if isinstance(found, Mapping) else None
        schema = found
    return schema
