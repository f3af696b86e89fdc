"""Conditions of a list in SQL."""

from __future__ import annotations

import operator
from collections.abc import Collection
from typing import Any, Final

import sqlalchemy as sa

from services.registry.service.filters import Condition
from services.registry.store.tables import revisions

_OPERATORS: Final = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


def matches(condition: Condition, *, sqlite: bool) -> sa.ColumnElement[bool]:
    if condition.column == "labels" and sqlite:
        # A JSON path of SQLite cannot name every key.
        each = sa.func.json_each(revisions.c.labels).table_valued("key", "value")
        holds = _compare(each.c.value, condition)
        return sa.select(1).select_from(each).where(each.c.key == condition.path[0], holds).exists()
    column = revisions.c[condition.column]
    if not condition.path:
        return _compare(column, condition)
    inside = column[condition.path]
    if isinstance(condition.value, bool):
        return _of_type(column, condition, sqlite, ("boolean", "true", "false"), inside.as_boolean())
    if isinstance(condition.value, float):
        return _of_type(column, condition, sqlite, ("number", "integer", "real"), inside.as_float())
    return _compare(inside.as_string(), condition)


def _of_type(
    column: Any, condition: Condition, sqlite: bool, types: Collection[str], value: Any
) -> sa.ColumnElement[bool]:
    """Compares values of the condition's own type; PostgreSQL has no number of a text."""
    if sqlite:
        path = "$" + "".join(f'."{name}"' for name in condition.path)
        found: Any = sa.func.json_type(column, path)
    else:
        found = sa.func.jsonb_typeof(column[condition.path])
    return sa.case((found.in_(types), _compare(value, condition)), else_=sa.false())


def _compare(column: Any, condition: Condition) -> sa.ColumnElement[bool]:
    value = condition.value
    if isinstance(value, str) and value.endswith("*") and condition.op in ("=", "!="):
        begins: sa.ColumnElement[bool] = column.startswith(value[:-1], autoescape=True)
        return begins if condition.op == "=" else ~begins
    compared: sa.ColumnElement[bool] = _OPERATORS[condition.op](column, value)
    return compared
