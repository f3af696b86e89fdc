"""Filters and orders of a list, in the part of AIP-160 and AIP-132 that ListAgentsRequest describes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from libs.errors import InvalidArgument, invalid
from services.registry.model import Kind, Resource, id_field

Value = str | float | bool | datetime

_COLUMNS: Final = ("resource_id", "display_name", "create_time", "update_time")
_TIMES: Final = ("create_time", "update_time")
_TOKEN: Final = re.compile(
    r"""\s*(?:
        (?P<path>[A-Za-z_][\w-]*(?:\.(?:[\w/-]+|"(?:[^"\\]|\\.)*"))*)
        \s*(?P<op><=|>=|!=|=|<|>)\s*
        (?:"(?P<text>(?:[^"\\]|\\.)*)"|(?P<bare>[\w.+-]+))
    )\s*""",
    re.VERBOSE,
)
_AND: Final = re.compile(r"AND\s")
_MARK: Final = re.compile(r"[^@]+@\d{1,18}")


@dataclass(frozen=True, slots=True)
class Condition:
    """`column` is one of the resource's own, or "labels" or "spec" with the path inside."""

    column: str
    path: tuple[str, ...]
    op: str
    value: Value


@dataclass(frozen=True, slots=True)
class Order:
    column: str = "resource_id"
    descending: bool = False

    def mark(self, resource: Resource) -> str:
        """Where a list ended: with the revision, for a later one may have another place in the order."""
        by_id = self.column == "resource_id"
        return resource.resource_id if by_id else f"{resource.resource_id}@{resource.revision}"

    def knows(self, mark: str) -> bool:
        return self.column == "resource_id" or _MARK.fullmatch(mark) is not None


def parse_filter(text: str, kind: Kind) -> Sequence[Condition]:
    if "\0" in text:
        raise invalid("filter", "contains a NUL character")
    conditions: list[Condition] = []
    at = 0
    while at < len(text.rstrip()):
        if conditions:
            joint = _AND.match(text, at)
            if joint is None:
                raise _fault(text, at, "AND is expected")
            at = joint.end()
        found = _TOKEN.match(text, at)
        if found is None:
            raise _fault(text, at, 'a condition such as labels.team = "sales" is expected')
        conditions.append(_condition(found, kind))
        at = found.end()
    return conditions


def _condition(found: re.Match[str], kind: Kind) -> Condition:
    parts = [_unquoted(part) for part in re.findall(r'"(?:[^"\\]|\\.)*"|[^.]+', found["path"])]
    column, path = _column(parts[0], kind), tuple(parts[1:])
    if (column in ("labels", "spec") and not path) or (column == "labels" and len(path) > 1):
        raise invalid("filter", f"{found['path']!r} names no single value")
    if column in _COLUMNS and path:
        raise invalid("filter", f"{parts[0]} has no fields")
    value: Value = _unquoted(f'"{found["text"]}"') if found["text"] is not None else _bare(found["bare"])
    if column in _TIMES:
        value = _time(value)
    elif column != "spec" and not isinstance(value, str):
        value = str(found["bare"])
    return Condition(column, path, found["op"], value)


def parse_order(text: str, kind: Kind) -> Order:
    words = text.split()
    if not words:
        return Order()
    try:
        column = _column(words[0], kind)
    except InvalidArgument:
        column = ""
    if column not in _COLUMNS or words[1:] not in ([], ["asc"], ["desc"]):
        own = id_field(kind)
        raise invalid("order_by", f"is not one of {own}, display_name, create_time, update_time, with or without desc")
    return Order(column, words[1:] == ["desc"])


def _column(name: str, kind: Kind) -> str:
    if name == id_field(kind):
        return "resource_id"
    if name in ("display_name", "create_time", "update_time", "labels", "spec"):
        return name
    raise invalid("filter", f"{name!r} cannot be filtered by")


def _bare(word: str) -> Value:
    if word in ("true", "false"):
        return word == "true"
    try:
        return float(word)
    except ValueError:
        return word


def _time(value: Value) -> datetime:
    try:
        time = datetime.fromisoformat(value if isinstance(value, str) else "")
        if time.tzinfo:
            return time.astimezone(UTC)  # SQLite compares times as texts
    except (ValueError, OverflowError):
        pass
    raise invalid("filter", "a time is written as RFC 3339 has it, in quotes")


def _unquoted(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text[1:-1]) if text.startswith('"') else text


def _fault(text: str, at: int, expected: str) -> InvalidArgument:
    return invalid("filter", f"at {text[at : at + 20]!r}: {expected}")
