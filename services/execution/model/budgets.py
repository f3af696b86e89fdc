"""What a run may take."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Budget:
    """A field of 0 is no limit."""

    max_cost_usd: float = 0.0
    max_total_tokens: int = 0
    max_model_calls: int = 0
    max_tool_calls: int = 0
    max_depth: int = 0

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)
