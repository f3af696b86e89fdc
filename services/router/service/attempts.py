"""What is tried next when an attempt has failed: again, another deployment, another group, or nothing more."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Mapping
from typing import Final

from libs import errors
from services.router.model import (
    ANY_GROUP,
    CallOptions,
    Deployment,
    ErrorClass,
    FailedAttempt,
    Failure,
    RoutingTable,
)
from services.router.service.cooldowns import error_class
from services.router.service.state import THE_REQUESTS_FAULT

_FIRST_PAUSE: Final = 0.2
_LONGEST_PAUSE: Final = 5.0


class Attempts:
    """The attempts of one call. `failed` and `barred` choose how it goes on, or raise the error that ends it."""

    def __init__(
        self, table: RoutingTable, group: str, options: CallOptions, jitter: Callable[[], float] = random.random
    ) -> None:
        self._table, self._options, self._jitter = table, options, jitter
        self.group, self.least_order = group, 0
        self.tried: set[str] = set()
        """Deployments of the group that have failed."""
        self.all_failed: list[FailedAttempt] = []
        self._here = 0
        self._groups: list[str] = []
        self._visited = {group}
        self._last: errors.Error | None = None

    def failed(
        self, deployment: Deployment, failure: Failure, seconds: float, *, others: bool, left: float | None
    ) -> float:
        """Seconds to pause before the next attempt. `others` when a deployment of the group is left that was not tried,
        `left` is what remains of the call's time."""
        self._count(deployment, failure, seconds)
        if left is not None and left <= 0:
            raise self._end()
        if self._may_retry(failure):
            pause = 0.0 if others else self._pause(failure.error.retry_after)
            if pause <= _LONGEST_PAUSE and (left is None or pause < left):
                return pause
        if error_class(failure) not in THE_REQUESTS_FAULT and self._next_order(deployment.order):
            return 0.0
        self._move(failure.error.reason_code)
        return 0.0

    def barred(self, error: errors.Error) -> None:
        """No deployment of the group takes the call."""
        self._last = self._last or error
        self._move(error.reason_code)

    def _count(self, deployment: Deployment, failure: Failure, seconds: float) -> None:
        reason = failure.error.reason_code
        self.all_failed.append(FailedAttempt(deployment.deployment_id, reason, seconds, deployment.model_group))
        self.tried.add(deployment.deployment_id)
        self._here += 1
        self._last = failure.error

    def _may_retry(self, failure: Failure) -> bool:
        kind = error_class(failure)
        most = self._stated(kind)
        if most is None:
            most = self._table.num_retries if failure.may_pass else 0
        elif self._options.num_retries is not None and not failure.may_pass:
            most = 0
        return self._here <= most

    def _stated(self, kind: ErrorClass) -> int | None:
        """Retries that the call or a policy states; a policy's count holds for what would not be tried again, too."""
        if self._options.num_retries is not None:
            return self._options.num_retries
        own = self._table.group_retry_policies.get(self.group, {})
        return own.get(kind, self._table.retry_policy.get(kind))

    def _pause(self, retry_after: float | None) -> float:
        jittered = _FIRST_PAUSE * 2.0 ** (self._here - 1) * (0.5 + self._jitter())
        return max(retry_after or 0.0, self._table.retry_after, min(jittered, _LONGEST_PAUSE))

    def _next_order(self, order: int) -> bool:
        """Goes on to the deployments of the next order, if there are any."""
        orders = {d.order for d in self._table.groups.get(self.group, ()) if d.order > order}
        if orders:
            self.least_order, self._here = min(orders), 0
        return bool(orders)

    def _move(self, reason: str) -> None:
        """Goes on to the next group, or ends."""
        if not self._options.disable_fallbacks:
            known = [
                g
                for g in fallbacks(self._table, self.group, reason)
                if g not in self._visited and g in self._table.groups
            ]
            self._groups[:0] = known
        while self._groups:
            group = self._groups.pop(0)
            if group not in self._visited and len(self._visited) <= self._table.max_fallbacks:
                self._visited.add(group)
                self.group, self.least_order, self._here = group, 0, 0
                self.tried = set()
                return
        raise self._end()

    def _end(self) -> errors.Error:
        error = self._last
        assert error is not None
        if self.all_failed:
            error.metadata["attempts"] = str(len(self.all_failed))
        return error


def fallbacks(table: RoutingTable, group: str, reason: str = "") -> list[str]:
    """The groups to ask when one has failed for this reason."""
    own: tuple[str, ...] = ()
    if reason == "CONTEXT_WINDOW_EXCEEDED":
        own = _entry(table.context_window_fallbacks, group)
    if reason == "CONTENT_POLICY":
        own = _entry(table.content_policy_fallbacks, group)
    return [table.group_of(name) for name in own or _entry(table.fallbacks, group) or table.default_fallbacks]


def upcoming(table: RoutingTable, group: str) -> list[str]:
    """The groups that a call goes through after its own, in order, when each of them fails."""
    visited, waiting = [group], deque(fallbacks(table, group))
    while waiting and len(visited) <= table.max_fallbacks:
        name = waiting.popleft()
        if name in table.groups and name not in visited:
            visited.append(name)
            waiting.extendleft(reversed(fallbacks(table, name)))
    return visited[1:]


def _entry(fallbacks: Mapping[str, tuple[str, ...]], group: str) -> tuple[str, ...]:
    return fallbacks.get(group) or fallbacks.get(ANY_GROUP, ())
