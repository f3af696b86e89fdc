"""Agents, as Registry keeps them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

Spec = Mapping[str, Any]
"""An AgentSpec in its JSON form, with proto field names."""


DEFAULT_MODEL_CALLS: Final = 50


NOT_RUN_YET: Final = (
    "reasoning_model",
    "reasoning",
    "knowledge",
    "guardrails",
    "handoffs",
)
"""Parts of a spec that Registry keeps and this version cannot run."""


@dataclass(frozen=True, slots=True)
class Agent:
    """A revision of an agent, as Registry keeps it."""

    agent_id: str
    revision: int
    description: str
    spec: Spec
    functions: Sequence[Mapping[str, Any]] = ()
    """Those of its tools that its caller calls, or that come and go, as Tool has them."""
