"""Texts of tools that speak to the model rather than of the tool. A person is shown why; nothing is done about it.

It is a hint and no defence: whoever knows these patterns writes around them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from services.execution.model.tools import Tool

_MOST: Final = 100_000
"""Characters that are looked at."""
_INVISIBLE: Final = re.compile("[\u200b-\u200f\u202a-\u202e\u2060-\u2064\u2066-\u2069\ufeff\U000e0000-\U000e007f]")
_PATTERNS: Final = (
    (
        "tells the model to ignore instructions",
        r"\b(ignore|disregard|forget|override|bypass)\b.{0,40}\b(previous|prior|earlier|above|other|all|system|safety)\b"
        r".{0,40}\b(instruction|prompt|rule|message|guideline)s?\b",
    ),
    (
        "asks to keep something from the user",
        r"\b(do not|don't|never|without)\b.{0,20}"
        r"\b(tell|mention|reveal|inform|show|notify|telling|mentioning|informing)\b.{0,40}\b(user|human|anyone|anybody|person|customer)\b",
    ),
    ("contains markup of prompts", r"<\|?\s*/?\s*(system|important|instructions?|im_start|im_end)\s*\|?>|\[/?INST\]"),
    (
        "asks for secrets or files of the machine",
        r"~/\.ssh|\bid_rsa\b|/etc/(passwd|shadow)|\.env\b|\.aws/credentials"
        r"|\b(read|send|include|pass|attach|copy)\b.{0,60}\b(private key|api key|password|access token|credential)s?\b",
    ),
    (
        "speaks of other tools' use",
        r"\b(before|instead of|whenever)\b.{0,40}\b(using|calling|any other)\b.{0,20}\btools?\b",
    ),
)
_COMPILED: Final = tuple((why, re.compile(pattern, re.IGNORECASE | re.DOTALL)) for why, pattern in _PATTERNS)


def suspicion(tool: Tool) -> str:
    """Why a person should read what the tool says of itself; empty where there is nothing to see."""
    text = "\n".join([tool.title, tool.description, *_texts(tool.input_schema), *_texts(tool.output_schema)])[:_MOST]
    found = [why for why, pattern in _COMPILED if pattern.search(text)]
    if _INVISIBLE.search(text):
        found.append("contains characters that cannot be seen")
    return f"its description {', '.join(found)}" if found else ""


def _texts(value: Any) -> Iterator[str]:
    """All texts of a schema, names as well: models read them all."""
    match value:
        case str():
            yield value
        case Mapping():
            for key, item in value.items():
                yield str(key)
                yield from _texts(item)
        case list():
            for item in value:
                yield from _texts(item)
