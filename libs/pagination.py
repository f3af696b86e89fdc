"""Opaque page tokens, bound to the query that they continue."""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeVar

import orjson

from libs.errors import invalid

T = TypeVar("T")
DEFAULT_PAGE_SIZE: Final = 50
MOST_BYTES: Final = 3 * 1024 * 1024
"""Of a page: clients take messages of 4 MiB unless they are told otherwise."""


def fitting(found: Sequence[T], measure: Callable[[T], int], left: int = MOST_BYTES) -> Sequence[T]:
    """As many of the first ones as go into one message; at least one, for the next page must be another."""
    for index, item in enumerate(found):
        left -= measure(item)
        if left < 0:
            return found[: max(1, index)]
    return found


def page_size(asked: int) -> int:
    return asked or DEFAULT_PAGE_SIZE


def to_token(last: str, query: Mapping[str, Any]) -> str:
    return base64.urlsafe_b64encode(orjson.dumps([last, _digest(last, query)])).decode()


def from_token(token: str, query: Mapping[str, Any]) -> str:
    """The key after which the page begins; "" for the first one."""
    if not token:
        return ""
    try:
        last, _ = orjson.loads(base64.urlsafe_b64decode(token.encode()))
    except (binascii.Error, ValueError, TypeError):
        raise invalid("page_token", "is not a token of this service") from None
    if not isinstance(last, str) or token != to_token(last, query):
        raise invalid("page_token", "belongs to another query")
    return last


def _digest(last: str, query: Mapping[str, Any]) -> str:
    return hashlib.sha256(orjson.dumps([last, dict(query)], option=orjson.OPT_SORT_KEYS)).hexdigest()[:16]
