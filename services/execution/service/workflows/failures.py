"""What the failure of a step is, and what it means."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from libs import errors
from services.execution.model.inputs import InputNeeded
from services.execution.service.targets import is_of_the_run

_FOR_GOOD: Final = ("BUDGET_EXCEEDED", "EXPRESSION_FAILED", "CHOICE_UNKNOWN", "NESTED_TOO_DEEP")
"""Reasons of failures that another try would meet as well."""


class Undo(Exception):
    """A step has failed for which the steps that are done are to be undone."""

    def __init__(self, error: errors.Error) -> None:
        super().__init__(error.message)
        self.error = error


def is_failure(error: errors.Error) -> bool:
    """Whether it is the step that failed, rather than the run that cannot go on."""
    return not isinstance(error, InputNeeded) and not is_of_the_run(error)


def may_be_tried_again(error: dict[str, Any]) -> bool:
    return error["reason"] not in _FOR_GOOD


def of_step(error: errors.Error, step_id: str) -> dict[str, Any]:
    """The error as data; the innermost step that failed is named."""
    kept = errors.to_dict(error)
    if "step_id" not in kept["metadata"]:
        kept["message"] = f"step {step_id}: {kept['message']}"
        kept["metadata"] = {**kept["metadata"], "step_id": step_id}
    return kept


def not_undone(cause: errors.Error, steps: Sequence[str]) -> errors.Error:
    return errors.Aborted(
        f"{cause.message}; then {', '.join(steps)} could not be undone",
        reason="COMPENSATION_FAILED",
        metadata={"cause": cause.reason_code, "not_compensated": ",".join(steps), **_step_of(cause)},
    )


def _step_of(error: errors.Error) -> dict[str, str]:
    return {"step_id": error.metadata["step_id"]} if "step_id" in error.metadata else {}


def late(seconds: float) -> errors.DeadlineExceeded:
    return errors.DeadlineExceeded(f"it has not ended within {seconds:g} s")
