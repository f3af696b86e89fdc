"""Whether a deployment that has failed is left alone for a while."""

from __future__ import annotations

from typing import Final

from services.router.model import ErrorClass, Failure, RoutingTable
from services.router.service.state import THE_REQUESTS_FAULT, DeploymentState
from services.router.service.windows import MINUTE

_FEWEST_CALLS: Final = 5
_FAILED_PART: Final = 0.5
_FEWEST_CALLS_ALONE: Final = 1000
_CLASSES: Final = {
    "UPSTREAM_REJECTED": ErrorClass.BAD_REQUEST,
    "CONTEXT_WINDOW_EXCEEDED": ErrorClass.BAD_REQUEST,
    "UPSTREAM_AUTH": ErrorClass.AUTHENTICATION,
    "DEADLINE_EXCEEDED": ErrorClass.TIMEOUT,
    "UPSTREAM_RATE_LIMITED": ErrorClass.RATE_LIMIT,
    "CONTENT_POLICY": ErrorClass.CONTENT_POLICY,
}


def error_class(failure: Failure) -> ErrorClass:
    return _CLASSES.get(failure.error.reason_code, ErrorClass.INTERNAL_SERVER)


def cooldown(table: RoutingTable, state: DeploymentState, failure: Failure, *, alone: bool, trial: bool) -> float:
    """Seconds, 0 for none. `alone` when the group has no other deployment, `trial` when the circuit was half open."""
    again = trial and error_class(failure) not in THE_REQUESTS_FAULT
    if table.disable_cooldowns or not (again or _wanted(table, state, failure, alone=alone)):
        return 0.0
    own = state.deployment.cooldown
    if own is not None:
        return own
    return failure.error.retry_after if failure.error.retry_after is not None else table.cooldown


def _wanted(table: RoutingTable, state: DeploymentState, failure: Failure, *, alone: bool) -> bool:
    kind, totals = error_class(failure), state.outcomes.within(MINUTE, state.clock())
    if (allowed := table.allowed_fails_policy.get(kind)) is not None:
        return totals.classes[kind] > allowed
    if (kind in THE_REQUESTS_FAULT and failure.status != 404) or failure.status == 403:
        return False
    if table.allowed_fails is not None:
        return totals.failures > table.allowed_fails
    if alone:
        return totals.requests >= _FEWEST_CALLS_ALONE and totals.successes == 0
    if failure.status in (401, 404, 429):
        return True
    return totals.requests >= _FEWEST_CALLS and totals.failures > totals.requests * _FAILED_PART
