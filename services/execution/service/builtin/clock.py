"""The time."""

from __future__ import annotations

import zoneinfo
from datetime import datetime
from typing import Final

from services.execution.service.builtin.offers import Offer, declared
from services.execution.service.sources import ToolError


def current_time(timezone: str = "UTC") -> str:
    try:
        zone = zoneinfo.ZoneInfo(timezone)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        raise ToolError(f"{timezone!r} is not an IANA time zone") from None
    return datetime.now(zone).isoformat(timespec="seconds")


CURRENT_TIME: Final = Offer(
    declared(
        "current_time",
        "Current time",
        "Returns the current date and time in a time zone, in ISO 8601.",
        {"timezone": {"type": "string", "description": 'IANA name, e.g. "America/Sao_Paulo". Default UTC.'}},
        [],
        examples=[{"timezone": "America/Sao_Paulo"}],
    ),
    current_time,
)
