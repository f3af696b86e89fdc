"""Opaque page tokens, bound to the query that they continue."""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Mapping
from typing import Any, Final

import orjson

from libs.errors import invalid

DEFAULT_PAGE_SIZE: Final = 50


def page_size(asked: int) -> int:
    return asked or DEFAULT_PAGE_SIZE


def to_token(last: str, query: Mapping[str, Any]) -> str:
    return base64.urlsafe_b64encode(orjson.dumps([last, _digest(last, query)])).decode()


def from_token(token: str, query: Mapping[str, Any]) -> str:
    """The key after which the page begins; "" for the first one."""
    if not token:
        return ""
    try:
        last, digest = orjson.loads(base64.urlsafe_b64decode(token.encode()))
    except (binascii.Error, ValueError, TypeError):
        raise invalid("page_token", "is not a token of this service") from None
    if not isinstance(last, str) or digest != _digest(last, query):
        raise invalid("page_token", "belongs to another query")
    return last


def _digest(last: str, query: Mapping[str, Any]) -> str:
    return hashlib.sha256(orjson.dumps([last, dict(query)], option=orjson.OPT_SORT_KEYS)).hexdigest()[:16]
