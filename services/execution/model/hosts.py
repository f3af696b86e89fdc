"""Hosts of tools: backends that registered tools on a stream of their own, and what is said on it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from services.execution.model.tools import Tool


@dataclass(frozen=True, slots=True)
class Registration:
    """What a host offers. Another one of its stream takes the place of this."""

    host_id: str
    registration_id: str
    tools: Mapping[str, Tool]
    """By the names under which the host knows them."""
    max_concurrency: int
    time: datetime


@dataclass(frozen=True, slots=True)
class Presence:
    """A host as the other processes know it."""

    tenant: str
    stream_id: str
    owner: str
    address: str
    """Where the process that holds the stream hears the others."""
    registration: Registration


@dataclass(frozen=True, slots=True)
class Errand:
    """A call, for whichever host makes it."""

    tool: str
    arguments: Mapping[str, Any]
    idempotency_key: str = ""
    execution_id: str = ""
    user_id: str = ""


@dataclass(frozen=True, slots=True)
class HostAnswer:
    """What a host says of a call; `data` goes before `output` where the call did not fail."""

    output: str = ""
    is_error: bool = False
    data: Any = None
    has_data: bool = False


@dataclass(frozen=True, slots=True)
class Rejected:
    name: str
    field: str
    reason: str


@dataclass(frozen=True, slots=True)
class Registered:
    host_id: str
    accepted: Sequence[str]
    rejected: Sequence[Rejected]


@dataclass(frozen=True, slots=True)
class Call:
    call_id: str
    errand: Errand
    seconds: float
    trace: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Cancel:
    call_id: str
    reason: str


class Beat: ...


class Draining: ...


Message = Registered | Call | Cancel | Beat | Draining
"""What is said to a host."""
