"""SQL that only reads. What is run is what was understood, written anew: never the text that came."""

from __future__ import annotations

import logging
from typing import Final

import sqlglot
from sqlglot import exp

from services.execution.service.sources import ToolError

LONGEST: Final = 20_000
_WRITES: Final = (
    exp.DML,
    exp.DDL,
    exp.Command,
    exp.Into,
    exp.Lock,
    exp.Set,
    exp.Pragma,
    exp.Attach,
    exp.Detach,
    exp.Drop,
    exp.Alter,
    exp.TruncateTable,
    exp.Use,
    exp.Transaction,
    exp.Kill,
)
_READ: Final = """
    age array_agg array_append array_cat array_position array_prepend array_remove array_to_json array_to_string
    array_upper btrim cardinality char_length cosh cot cume_dist date_bin date_part degrees encode erf format
    hypot instr isfinite json_array json_array_elements json_array_elements_text json_array_length
    json_build_array json_build_object json_each json_each_text json_extract json_group_array json_group_object
    json_object json_object_keys json_tree json_type json_typeof json_valid jsonb_agg jsonb_array_elements
    jsonb_array_elements_text jsonb_array_length jsonb_build_array jsonb_build_object jsonb_each jsonb_each_text
    jsonb_extract_path jsonb_extract_path_text jsonb_object_agg jsonb_object_keys jsonb_path_exists
    jsonb_path_query jsonb_pretty jsonb_typeof julianday justify_days justify_hours justify_interval likelihood
    ltrim make_date make_interval make_time make_timestamp make_timestamptz mode nullif num_nonnulls num_nulls
    octet_length overlay percent_rank phraseto_tsquery pi plainto_tsquery printf quote_ident quote_literal
    radians regexp_count regexp_matches regexp_split_to_array regexp_split_to_table row_to_json rtrim scale sign
    similarity sinh string_to_array strpos tanh to_json to_jsonb to_tsquery to_tsvector total translate
    trim_scale ts_headline ts_rank typeof unicode unixepoch unnest websearch_to_tsquery width_bucket
    word_similarity
"""
_HARMLESS: Final = frozenset(_READ.split())
"""Functions that the parser does not know, but that are known to read alone."""
_HARMFUL: Final = ("ReadCSV", "ReadParquet", "Repeat", "Pad", "RandStr", "Randn")
"""Functions that the parser knows: they read files, or make much out of nothing."""

logging.getLogger("sqlglot").setLevel(logging.ERROR)  # it warns of statements that are refused here


def checked(query: str, dialect: str) -> str:
    """The query, if it is one statement that reads."""
    try:
        parsed = sqlglot.parse(query, read=dialect)
    except sqlglot.errors.SqlglotError as error:
        raise ToolError(f"the query is no SQL: {str(error).splitlines()[0][:200]}") from None
    except RecursionError:
        raise ToolError("the query is nested too deeply") from None
    # A comment after the last semicolon is one of its own.
    statements = [one for one in parsed if one is not None and not isinstance(one, exp.Semicolon)]
    if len(statements) != 1:
        raise ToolError(f"exactly one statement is run, not {len(statements)}")
    (statement,) = statements
    if not isinstance(statement, exp.Query):
        raise ToolError("only SELECT is run")
    try:
        for part in statement.walk():
            _require_harmless(part)
        return statement.sql(dialect=dialect, comments=False)
    except RecursionError:
        raise ToolError("the query is nested too deeply") from None


def _require_harmless(part: exp.Expr) -> None:
    if isinstance(part, _WRITES):
        raise ToolError("only SELECT is run: the query has a part that writes or locks")
    if isinstance(part, exp.CTE) and not isinstance(part.this, exp.Query | exp.Values):
        raise ToolError("only SELECT is run: a part of WITH is none")
    if isinstance(part, exp.Anonymous | exp.AnonymousAggFunc) and part.name.lower() not in _HARMLESS:
        raise ToolError(f"the function {part.name[:100]!r} is none of those that may be used")
    if type(part).__name__ in _HARMFUL:
        raise ToolError(f"the function {type(part).__name__} is none of those that may be used")
