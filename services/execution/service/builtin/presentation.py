"""How an answer is shown: tables, charts, and a guide for the backend that renders it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import orjson

from services.execution.service.builtin.offers import Offer, declared, record
from services.execution.service.sources import ToolError

_TEXT: Final = {"type": "string", "maxLength": 1000}
_LONG: Final = {"type": "string", "maxLength": 100_000}
_CELL: Final = {"type": ["string", "number", "boolean", "null"]}
_COLUMNS: Final = {"type": "array", "items": {**_TEXT, "minLength": 1}, "minItems": 1, "maxItems": 50}
_ROWS: Final = {"type": "array", "items": {"type": "array", "items": _CELL}, "maxItems": 1000}
_CHARTS: Final = ("bar", "line", "pie", "radar")
_OBJECT: Final = {"type": "object"}


def format_table(columns: Sequence[str], rows: Sequence[Sequence[Any]], title: str = "") -> str:
    _require_cells(columns, rows)
    lines = [columns, ["---"] * len(columns), *rows]
    table = "\n".join(f"| {' | '.join(map(_cell, line))} |" for line in lines)
    return f"**{_cell(title)}**\n\n{table}" if title else table


def _require_cells(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    for index, row in enumerate(rows):
        if len(row) != len(columns):
            raise ToolError(f"rows[{index}] has {len(row)} cells, but there are {len(columns)} columns")


def _cell(value: Any) -> str:
    if value is None:
        return ""
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("\r", "").replace("\n", "<br>")


def format_chart_config(
    chart_type: str, x_axis: str, y_axis: str | Sequence[str], data: Sequence[Mapping[str, Any]], title: str = ""
) -> str:
    series = [y_axis] if isinstance(y_axis, str) else list(y_axis)
    for index, point in enumerate(data):
        if x_axis not in point:
            raise ToolError(f"data[{index}] has no {x_axis!r}")
        for name in series:
            if isinstance(point.get(name), bool) or not isinstance(point.get(name), int | float):
                raise ToolError(f"data[{index}].{name} is not a number")
    options: dict[str, Any] = {
        "responsive": True,
        "plugins": {
            "legend": {"display": True},
            "tooltip": {"enabled": True},
            "title": {"display": bool(title), "text": title},
        },
    }
    if chart_type in ("bar", "line"):
        options["scales"] = {"x": _axis(x_axis), "y": _axis(", ".join(series))}
    datasets = [{"label": name, "data": [point[name] for point in data]} for name in series]
    labels = [_cell(point[x_axis]) for point in data]
    return _json({"type": chart_type, "data": {"labels": labels, "datasets": datasets}, "options": options})


def _axis(text: str) -> Mapping[str, Any]:
    return {"title": {"display": True, "text": text}}


def response_format_guide(kind: str, answer: str, **parts: Any) -> str:
    """The answer, with how to lay it out: the backend that shows it decides how that looks."""
    structure, styling, chart = _LAYOUTS[kind](answer, parts)
    guide = {"format": "markdown", "structure": structure, "styling": styling, "chart_config": chart}
    return _json({"answer": answer, "format_guide": guide})


_Layout = tuple[dict[str, Any], dict[str, Any], dict[str, Any] | None]


def _as_text(answer: str, parts: Mapping[str, Any]) -> _Layout:
    bold = bool(parts.get("highlight_numbers"))
    return {"type": "single_paragraph", "highlight_numbers": bold}, {"bold_numbers": bold}, None


def _as_table(answer: str, parts: Mapping[str, Any]) -> _Layout:
    columns, rows = _required(parts, "columns"), _required(parts, "rows")
    _require_cells(columns, rows)
    table = {"type": "table", "title": parts.get("title", ""), "columns": columns, "rows": rows}
    chart = None
    if "chart_type" in parts:
        if len(columns) < 2:
            raise ToolError("a chart needs two columns")
        chart = {"type": parts["chart_type"], "data_source": "table", "x_column": columns[0], "y_column": columns[1]}
    return {"sections": [{"type": "summary", "content": answer}, table]}, {}, chart


def _as_comparison(answer: str, parts: Mapping[str, Any]) -> _Layout:
    winner, dimensions = _required(parts, "winner"), _required(parts, "dimensions")
    rows = [
        [name, max(scores, key=lambda who: scores[who]), max(scores.values())] for name, scores in dimensions.items()
    ]
    sections: list[dict[str, Any]] = [
        {"type": "summary", "content": answer, "highlight": winner},
        {"type": "table", "title": "By dimension", "columns": ["Dimension", "Best", "Score"], "rows": rows},
    ]
    for name in ("insights", "recommendations"):
        if parts.get(name):
            sections.append({"type": "bullets", "title": name.capitalize(), "items": parts[name]})
    who = sorted({one for scores in dimensions.values() for one in scores}, key=lambda one: (one != winner, one))
    series = [{"name": one, "data": [scores.get(one, 0) for scores in dimensions.values()]} for one in who]
    return {"sections": sections}, {}, {"type": "radar", "dimensions": list(dimensions), "series": series}


def _required(parts: Mapping[str, Any], name: str) -> Any:
    if not parts.get(name):
        raise ToolError(f"{name} is required for this kind of answer")
    return parts[name]


_LAYOUTS: Final = {"text": _as_text, "table": _as_table, "comparison": _as_comparison}


def _json(value: Any) -> str:
    return orjson.dumps(value).decode()


OFFERS: Final = (
    Offer(
        declared(
            "format_table",
            "Table",
            "Writes rows as a table in Markdown.",
            {
                "columns": {**_COLUMNS, "description": "Names of the columns."},
                "rows": {**_ROWS, "description": "Cells of each row, one a column."},
                "title": {**_TEXT, "description": "Put above the table."},
            },
            ["columns", "rows"],
            examples=[{"columns": ["Agent", "Leads"], "rows": [["Ann", 47], ["Bob", 31]]}],
        ),
        format_table,
    ),
    Offer(
        declared(
            "format_chart_config",
            "Chart",
            "Makes the configuration of a chart for Chart.js.",
            {
                "chart_type": {"enum": list(_CHARTS)},
                "x_axis": {**_TEXT, "minLength": 1, "description": "The key of the labels in `data`."},
                "y_axis": {
                    "anyOf": [{**_TEXT, "minLength": 1}, _COLUMNS],
                    "description": "The key of the values, or the keys of several series.",
                },
                "data": {"type": "array", "items": _OBJECT, "minItems": 1, "maxItems": 1000},
                "title": _TEXT,
            },
            ["chart_type", "x_axis", "y_axis", "data"],
            output=record({"type": {"enum": list(_CHARTS)}, "data": _OBJECT, "options": _OBJECT}),
            examples=[
                {"chart_type": "bar", "x_axis": "agent", "y_axis": "leads", "data": [{"agent": "Ann", "leads": 47}]}
            ],
        ),
        format_chart_config,
    ),
    Offer(
        declared(
            "response_format_guide",
            "Format guide",
            "Gives an answer together with a guide how to show it: a text, a table (with a chart), or a comparison. "
            "Return what it says as your answer where the caller formats answers.",
            {
                "kind": {"enum": list(_LAYOUTS)},
                "answer": {**_LONG, "description": "The answer, or its summary."},
                "highlight_numbers": {"type": "boolean", "description": "text: make numbers bold."},
                "title": {**_TEXT, "description": "table: its title."},
                "columns": {**_COLUMNS, "description": "table: names of the columns."},
                "rows": {**_ROWS, "description": "table: cells of each row."},
                "chart_type": {"enum": list(_CHARTS), "description": "table: show the first two columns as this."},
                "winner": {**_TEXT, "description": "comparison: who does best."},
                "dimensions": {
                    "type": "object",
                    "maxProperties": 50,
                    "additionalProperties": {
                        "type": "object",
                        "minProperties": 1,
                        "additionalProperties": {"type": "number"},
                    },
                    "description": "comparison: by dimension, the score of each who is compared.",
                },
                "insights": {"type": "array", "items": _TEXT, "maxItems": 50},
                "recommendations": {"type": "array", "items": _TEXT, "maxItems": 50},
            },
            ["kind", "answer"],
            output=record(
                {
                    "answer": {"type": "string"},
                    "format_guide": record(
                        {
                            "format": {"const": "markdown"},
                            "structure": _OBJECT,
                            "styling": _OBJECT,
                            "chart_config": {"type": ["object", "null"]},
                        }
                    ),
                }
            ),
            examples=[{"kind": "text", "answer": "You had 47 leads today.", "highlight_numbers": True}],
        ),
        response_format_guide,
    ),
)
