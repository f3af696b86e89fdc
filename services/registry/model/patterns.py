"""Regular expressions of RE2: Execution matches them in linear time, whatever the text."""

from __future__ import annotations

from typing import Final

import re2

MOST_CHARACTERS: Final = 1024


def problem_of_pattern(pattern: str) -> str | None:
    if len(pattern) > MOST_CHARACTERS:
        return f"is a regular expression of more than {MOST_CHARACTERS} characters"
    options = re2.Options()
    options.log_errors = False
    try:
        re2.compile(pattern, options)
    except (re2.error, ValueError) as error:
        return f"is not a regular expression of RE2: {_text(error)}"
    return None


def _text(error: Exception) -> str:
    cause = error.args[0] if error.args else ""
    return (cause.decode(errors="replace") if isinstance(cause, bytes) else str(error))[:200]
