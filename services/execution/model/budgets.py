"""What a run may take, and what it has taken."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

from libs import errors
from services.execution.model.executions import Usage

DEEPEST: Final = 16
"""Members within members, whatever a budget says."""


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


@dataclass(frozen=True, slots=True)
class Meter:
    """What a part of a run takes, asked before each of its steps: it must fit into the whole, and counts there too."""

    usage: Usage
    budget: Budget
    above: Meter | None = None

    def model_call(self) -> None:
        """Counts a call; raises BUDGET_EXCEEDED where there is nothing left for it."""
        for meter in self._chain():
            meter._require()
            _require_less("max_model_calls", meter.usage.model_calls, meter.budget.max_model_calls)
        for meter in self._chain():
            meter.usage.model_calls += 1

    def tool_call(self) -> None:
        for meter in self._chain():
            meter._require()
            _require_less("max_tool_calls", meter.usage.tool_calls, meter.budget.max_tool_calls)
        for meter in self._chain():
            meter.usage.tool_calls += 1

    def count(self, taken: Mapping[str, Any]) -> None:
        """Counts what a model call has taken, by the names of Usage's fields."""
        for meter in self._chain():
            for name, value in taken.items():
                setattr(meter.usage, name, getattr(meter.usage, name) + value)

    def part(self, budget: Budget) -> Meter:
        """The meter of a member; raises where it would be nested too deep."""
        depth = 0
        for depth, meter in enumerate(self._chain(), 1):
            _require_less("max_depth", depth, meter.budget.max_depth + 1 if meter.budget.max_depth else 0)
        if depth > DEEPEST:
            raise errors.ResourceExhausted(
                f"members are nested deeper than {DEEPEST}", reason="NESTED_TOO_DEEP", metadata={"limit": str(DEEPEST)}
            )
        return Meter(Usage(), budget, self)

    def _chain(self) -> Iterator[Meter]:
        meter: Meter | None = self
        while meter is not None:
            yield meter
            meter = meter.above

    def _require(self) -> None:
        usage, budget = self.usage, self.budget
        _require_less("max_cost_usd", usage.cost_usd, budget.max_cost_usd)
        _require_less("max_total_tokens", usage.input_tokens + usage.output_tokens, budget.max_total_tokens)


def _require_less(name: str, used: float, limit: float) -> None:
    if limit and used >= limit:
        raise errors.ResourceExhausted(
            f"the run has used {used:.12g} of {limit:.12g}, its {name}",
            reason="BUDGET_EXCEEDED",
            metadata={"budget": name, "limit": f"{limit:.12g}", "used": f"{used:.12g}"},
        )
