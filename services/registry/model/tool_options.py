"""How an agent has its tools: the options of a tool reference, and when calls need an approval."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from libs.errors import Violation
from services.registry.model import Spec
from services.registry.model.expressions import TOOL_CALL, Wanted, check_expression

_OF_CALLS: Final = ("retries", "retry_backoff", "cache_ttl", "result_limit", "idempotent", "approval")
"""What is meant for calls that Execution makes."""


def check_options(reference: Spec, field: str) -> Iterator[Violation]:
    if reference["tool_id"].startswith("function/"):
        for name in _OF_CALLS:
            if name in reference:
                yield Violation(f"{field}.{name}", "cannot be had: functions are called by the caller of the run")
        return
    yield from check_approval(reference, field)
    approval = reference.get("approval")
    always = reference.get("requires_confirmation") or (approval is not None and not approval.get("condition"))
    if always and "cache_ttl" in reference:
        yield Violation(f"{field}.cache_ttl", "contradicts an approval that each call needs")
    if reference.get("requires_confirmation") and approval and approval.get("condition"):
        yield Violation(f"{field}.approval.condition", "contradicts requires_confirmation")
    if "retry_backoff" in reference and not reference.get("retries"):
        yield Violation(f"{field}.retry_backoff", "is given, but no retries")


def check_approval(spec: Spec, field: str) -> Iterator[Violation]:
    """The approval of an agent or of a tool reference."""
    condition = spec.get("approval", {}).get("condition")
    if condition and (problem := check_expression(condition, TOOL_CALL, Wanted.TRUTH)):
        yield Violation(f"{field}.approval.condition", problem)
