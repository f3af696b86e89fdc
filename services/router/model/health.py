"""How well deployments are: what was seen of them in the last five minutes, and what that makes of them."""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from statistics import median
from typing import Any, Final

WINDOW: Final = 300.0
_RECENT: Final = 60.0
_SLOT: Final = 5.0
_STEP: Final = math.log(1.1)
"""Latencies are counted in classes, each 10 % above the one before: classes of several replicas add up."""
_SHORTEST: Final = 1e-4
_REPORT: Final = 0.25
"""What a client's report weighs against a call of the Router's own."""
_REPORTS_OF_ONE: Final = 4
"""Reports of one client that count in a window: together as much as one call."""
_MOST_REPORTS: Final = 1000
_DEGRADED: Final = 0.1
_UNHEALTHY: Final = 0.5
_ENOUGH: Final = 5
_IN_A_ROW: Final = 3
_SLOW: Final = 3.0
_ENOUGH_TO_BE_SLOW: Final = 20
_LATEST: Final = 10


class HealthState(StrEnum):
    UNKNOWN = "unknown"
    HEALTHY = "healthy"
    DEGRADED = "degraded"
    COOLING_DOWN = "cooling_down"
    UNHEALTHY = "unhealthy"


class Circuit(StrEnum):
    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


@dataclass(frozen=True, slots=True)
class DeploymentHealth:
    """Times are seconds, `cooldown_until` and `since` of the epoch."""

    deployment_id: str
    model_group: str
    state: HealthState = HealthState.UNKNOWN
    circuit: Circuit = Circuit.CLOSED
    cooldown_until: float | None = None
    last_error: str = ""
    latency_p50: float | None = None
    latency_p95: float | None = None
    first_token_p50: float | None = None
    in_flight: int = 0
    requests: int = 0
    failures: int = 0
    reported_failures: int = 0
    removed: bool = False
    since: float = 0.0

    @property
    def essence(self) -> tuple[object, ...]:
        """What is told at once; the rest are figures."""
        return (self.model_group, self.state, self.circuit, self.cooldown_until, self.last_error, self.removed)


@dataclass(frozen=True, slots=True)
class GroupHealth:
    model_group: str
    state: HealthState
    available: int
    total: int


@dataclass(frozen=True, slots=True)
class Seen:
    """What one replica has seen of a deployment in the window."""

    requests: int = 0
    failures: int = 0
    recent_requests: int = 0
    """Of the last minute."""
    recent_failures: int = 0
    reports: int = 0
    """Clients' reports, of those that count."""
    bad_reports: int = 0
    reported_failures: int = 0
    last_failure: float = 0.0
    last_error: str = ""
    slow: bool = False
    latency: Mapping[int, int] = field(default_factory=dict)
    first_token: Mapping[int, int] = field(default_factory=dict)
    in_flight: int = 0
    cooldown_until: float = 0.0
    half_open: bool = False

    @property
    def is_empty(self) -> bool:
        return not (self.requests or self.reports or self.in_flight or self.cooldown_until or self.half_open)

    @property
    def urgent(self) -> tuple[object, ...]:
        """What may make another state of it."""
        return (self.failures, self.bad_reports, self.last_failure, self.slow, self.cooldown_until, self.half_open)

    def to_dict(self) -> dict[str, Any]:
        kept = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return kept | {name: {str(k): n for k, n in kept[name].items()} for name in ("latency", "first_token")}

    @classmethod
    def from_dict(cls, kept: Mapping[str, Any]) -> Seen:
        """Fields that only a replica of another version knows are left out."""
        known = {name: kept[name] for name in cls.__dataclass_fields__ if name in kept}
        for name in ("latency", "first_token"):
            known[name] = {int(k): int(n) for k, n in known.get(name, {}).items()}
        return cls(**known)


class Reports:
    """What clients said of a deployment in the window. One that has said enough no longer counts."""

    def __init__(self) -> None:
        self._said: deque[tuple[float, str, bool, bool]] = deque(maxlen=_MOST_REPORTS)
        self._counted: Counter[str] = Counter()

    def add(self, now: float, client: str, *, failed: bool) -> None:
        self._forget(now)
        if len(self._said) == _MOST_REPORTS:
            self._drop()
        counts = self._counted[client] < _REPORTS_OF_ONE
        self._counted[client] += counts
        self._said.append((now, client, failed, counts))

    def totals(self, now: float) -> tuple[int, int, int]:
        """Reports that count, those of them that tell of failures, and all that do."""
        self._forget(now)
        counting = [failed for _, _, failed, counts in self._said if counts]
        return len(counting), sum(counting), sum(failed for _, _, failed, _ in self._said)

    def _forget(self, now: float) -> None:
        while self._said and now - self._said[0][0] >= WINDOW:
            self._drop()

    def _drop(self) -> None:
        _, client, _, counted = self._said.popleft()
        self._counted[client] -= counted
        if not self._counted[client]:
            del self._counted[client]


@dataclass(slots=True)
class _Slot:
    begun: float
    requests: int = 0
    failures: int = 0
    latency: Counter[int] = field(default_factory=Counter)
    first_token: Counter[int] = field(default_factory=Counter)


class Window:
    """What this replica has seen of a deployment, summed up; times are seconds of the epoch."""

    def __init__(self) -> None:
        self.reports = Reports()
        self._slots: deque[_Slot] = deque()
        self._total = _Slot(0.0)
        self._last_failure, self._last_error = 0.0, ""
        self._latest: deque[float] = deque(maxlen=_LATEST)

    def succeeded(self, now: float, seconds: float, first_token: float | None) -> None:
        for slot in (self._slot(now), self._total):
            slot.requests += 1
            slot.latency[_class_of(seconds)] += 1
            if first_token is not None:
                slot.first_token[_class_of(first_token)] += 1
        self._latest.append(seconds)

    def failed(self, now: float, reason: str) -> None:
        for slot in (self._slot(now), self._total):
            slot.requests += 1
            slot.failures += 1
        self._last_failure, self._last_error = now, reason

    def seen(self, now: float) -> Seen:
        self._forget(now)
        counted, bad, reported = self.reports.totals(now)
        recent = [slot for slot in self._slots if now - slot.begun < _RECENT]
        total, failing = self._total, self._total.failures > 0
        return Seen(
            total.requests,
            total.failures,
            sum(slot.requests for slot in recent),
            sum(slot.failures for slot in recent),
            counted,
            bad,
            reported,
            self._last_failure if failing else 0.0,
            self._last_error if failing else "",
            self._is_slow(),
            dict(total.latency),
            dict(total.first_token),
        )

    def _is_slow(self) -> bool:
        """Whether the newest answers take far longer than usual."""
        usual = quantile(self._total.latency, 0.5)
        if usual is None or self._total.requests - self._total.failures < _ENOUGH_TO_BE_SLOW:
            return False
        return median(self._latest) > max(_SLOW * usual, 1.0)

    def _slot(self, now: float) -> _Slot:
        if not self._slots or now - self._slots[-1].begun >= _SLOT:
            self._forget(now)
            self._slots.append(_Slot(now))
        return self._slots[-1]

    def _forget(self, now: float) -> None:
        while self._slots and now - self._slots[0].begun >= WINDOW:
            old, total = self._slots.popleft(), self._total
            total.requests -= old.requests
            total.failures -= old.failures
            total.latency -= old.latency  # what comes to nothing goes
            total.first_token -= old.first_token


def assess(deployment_id: str, model_group: str, seen: Sequence[Seen], now: float) -> DeploymentHealth:
    """What replicas have seen, taken together."""
    latency, first_token = _together([s.latency for s in seen]), _together([s.first_token for s in seen])
    cooldown_until = max((s.cooldown_until for s in seen), default=0.0)
    open_ = cooldown_until > now
    half_open = not open_ and any(s.half_open for s in seen)
    worst = max(seen, key=lambda s: s.last_failure, default=Seen())
    return DeploymentHealth(
        deployment_id,
        model_group,
        HealthState.COOLING_DOWN if open_ else _state(seen),
        Circuit.OPEN if open_ else Circuit.HALF_OPEN if half_open else Circuit.CLOSED,
        cooldown_until if open_ else None,
        worst.last_error,
        quantile(latency, 0.5),
        quantile(latency, 0.95),
        quantile(first_token, 0.5),
        sum(s.in_flight for s in seen),
        sum(s.requests for s in seen),
        sum(s.failures for s in seen),
        sum(s.reported_failures for s in seen),
    )


def _state(seen: Sequence[Seen]) -> HealthState:
    requests, failures = sum(s.requests for s in seen), sum(s.failures for s in seen)
    recent, failing = sum(s.recent_requests for s in seen), sum(s.recent_failures for s in seen)
    asked = requests + _REPORT * sum(s.reports for s in seen)
    failed = failures + _REPORT * sum(s.bad_reports for s in seen)
    if not asked:
        return HealthState.UNKNOWN
    if _IN_A_ROW <= failing == recent or (failures and failed >= _ENOUGH and failed > _UNHEALTHY * asked):
        return HealthState.UNHEALTHY
    if failed > _DEGRADED * asked or any(s.slow for s in seen):
        return HealthState.DEGRADED
    return HealthState.HEALTHY if requests else HealthState.UNKNOWN


def group_health(model_group: str, deployments: Collection[DeploymentHealth]) -> GroupHealth:
    """As its best deployment; degraded when only some of them answer."""
    answering = [d for d in deployments if d.state not in (HealthState.COOLING_DOWN, HealthState.UNHEALTHY)]
    order = list(HealthState)[1:]
    known = [d.state for d in deployments if d.state is not HealthState.UNKNOWN]
    state = min(known, key=order.index, default=HealthState.UNKNOWN)
    if answering and len(answering) < len(deployments):
        state = HealthState.DEGRADED
    available = sum(d.circuit is not Circuit.OPEN for d in deployments)
    return GroupHealth(model_group, state, available, len(deployments))


def quantile(classes: Mapping[int, int], part: float) -> float | None:
    left = part * sum(classes.values())
    for number in sorted(classes):
        left -= classes[number]
        if left <= 0:
            return math.exp((number + 0.5) * _STEP)
    return None


def since(health: DeploymentHealth, before: DeploymentHealth | None, now: float) -> DeploymentHealth:
    """With the time at which its state began."""
    same = before is not None and (before.state, before.removed) == (health.state, health.removed)
    return replace(health, since=before.since if before and same else now)


def _class_of(seconds: float) -> int:
    return math.floor(math.log(max(seconds, _SHORTEST)) / _STEP)


def _together(classes: Sequence[Mapping[int, int]]) -> Mapping[int, int]:
    if len(classes) == 1:
        return classes[0]
    whole: Counter[int] = Counter()
    for each in classes:
        whole.update(each)
    return whole
