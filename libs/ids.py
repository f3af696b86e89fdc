"""Ids: chosen by callers within one pattern, else UUIDv7."""

from __future__ import annotations

import re
from typing import Final

import uuid_utils

_PATTERN: Final = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")


def new_id() -> str:
    return str(uuid_utils.uuid7())


def is_id(text: str) -> bool:
    return _PATTERN.fullmatch(text) is not None
