"""What this Router has seen of each deployment. It outlives the routing tables. Times are those of `states.clock`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Final

from services.router.model import OFFLINE_GROUP, Deployment, ErrorClass, Facts, RoutingTable
from services.router.model.health import Circuit
from services.router.service.ports import Observer
from services.router.service.windows import MinuteCount, Outcomes, Samples

THE_REQUESTS_FAULT: Final = frozenset({ErrorClass.BAD_REQUEST, ErrorClass.CONTENT_POLICY})
CANCELLED: Final = "CANCELLED"
_MOST_SAMPLES: Final = 1000
_TIMED_OUT: Final = 1000.0
"""Seconds per token that a timeout counts as, with LiteLLM."""

Clock = Callable[[], float]
Key = tuple[str, str]
"""Tenant and deployment id."""


class DeploymentState:
    __slots__ = (
        "clock",
        "cooldown_until",
        "deployment",
        "facts",
        "first_tokens",
        "in_flight",
        "outcomes",
        "removed",
        "requests",
        "seconds_per_token",
        "tenant",
        "tokens",
        "trials",
    )

    def __init__(self, tenant: str, deployment: Deployment, clock: Clock) -> None:
        self.tenant, self.deployment, self.clock = tenant, deployment, clock
        self.facts: Facts | None = None
        self.in_flight = 0
        self.requests, self.tokens = MinuteCount(), MinuteCount()
        self.outcomes = Outcomes()
        self.seconds_per_token, self.first_tokens = Samples(_MOST_SAMPLES), Samples(_MOST_SAMPLES)
        self.cooldown_until: float | None = None
        """Set while the circuit is open or half open."""
        self.trials = 0
        """Calls in flight that decide whether a half open circuit closes."""
        self.removed = False

    @property
    def key(self) -> Key:
        return self.tenant, self.deployment.deployment_id

    @property
    def circuit(self) -> Circuit:
        if self.cooldown_until is None:
            return Circuit.CLOSED
        return Circuit.OPEN if self.clock() < self.cooldown_until else Circuit.HALF_OPEN

    @property
    def cooldown_left(self) -> float:
        return 0.0 if self.cooldown_until is None else max(0.0, self.cooldown_until - self.clock())


class DeploymentStates:
    def __init__(self, clock: Clock = time.monotonic) -> None:
        self.clock = clock
        self._states: dict[Key, DeploymentState] = {}
        self._observers: list[Observer] = []

    def __iter__(self) -> Iterator[DeploymentState]:
        return iter([*self._states.values()])

    def __len__(self) -> int:
        return len(self._states)

    def observe(self, observer: Observer) -> None:
        self._observers.append(observer)

    def of(self, tenant: str, deployment: Deployment) -> DeploymentState:
        state = self._states.get((tenant, deployment.deployment_id))
        if state is None or (state.deployment is not deployment and _another(state.deployment, deployment)):
            state = self._states[tenant, deployment.deployment_id] = DeploymentState(tenant, deployment, self.clock)
        if state.deployment is not deployment:
            state.deployment, state.facts = deployment, None
        return state

    def peek(self, tenant: str, deployment: Deployment) -> DeploymentState:
        """As `of`, for a table that is not in force."""
        state = self.find(tenant, deployment.deployment_id)
        if state is None or state.deployment is not deployment:
            return DeploymentState(tenant, deployment, self.clock)
        return state

    def find(self, tenant: str, deployment_id: str) -> DeploymentState | None:
        return self._states.get((tenant, deployment_id))

    def follow(self, tenant: str, table: RoutingTable | None) -> None:
        """Takes a new table, or that there is none: states of what is gone go with their last call."""
        present = {d.deployment_id: d for d in table.deployments()} if table else {}
        for state in [s for s in self if s.tenant == tenant]:
            if table and state.deployment.model_group == OFFLINE_GROUP:
                continue
            kept = present.get(state.deployment.deployment_id)
            if kept is None or _another(state.deployment, kept):
                state.removed = True
                self.drop_if_over(state)

    def drop_if_over(self, state: DeploymentState) -> None:
        if state.removed and state.in_flight == 0 and self._states.get(state.key) is state:
            del self._states[state.key]

    def begin(self, state: DeploymentState) -> Seat:
        for observer in self._observers:
            observer.began(state.tenant, state.deployment)
        return Seat(self, state)

    def end(self, state: DeploymentState, seconds: float, first_token: float | None, reason: str | None) -> None:
        self.drop_if_over(state)
        for observer in self._observers:
            observer.ended(state.tenant, state.deployment, seconds, first_token, reason)

    def cool(self, state: DeploymentState, seconds: float) -> None:
        """Opens the circuit, or keeps it open for longer."""
        until = self.clock() + seconds
        if state.cooldown_until is not None and until <= state.cooldown_until:
            return
        state.cooldown_until = until
        for observer in self._observers:
            observer.cooling(*state.key, time.time() + seconds)

    def close(self, state: DeploymentState) -> None:
        if state.cooldown_until is None:
            return
        state.cooldown_until = None
        for observer in self._observers:
            observer.cooling(*state.key, 0.0)


class Seat:
    """A call in flight, which `leave` or one of the outcomes ends; a second end does no harm."""

    __slots__ = ("_started", "_states", "first_token", "renewed", "settled", "state", "taken", "trial")

    def __init__(self, states: DeploymentStates, state: DeploymentState) -> None:
        self._states, self.state, self.taken = states, state, True
        self._started, self.first_token = states.clock(), 0.0
        self.settled, self.renewed = False, False
        self.trial = state.cooldown_until is not None
        state.in_flight += 1
        state.trials += self.trial
        state.requests.add(1, self._started)

    @property
    def seconds(self) -> float:
        return self._states.clock() - self._started

    def answers(self) -> None:
        """A first sign of life: the circuit closes if it is half open."""
        self.first_token = self.first_token or self.seconds
        if self.state.circuit is Circuit.HALF_OPEN:
            self._states.close(self.state)

    def succeeded(self, tokens: int, *, stream: bool) -> None:
        now, state, self.settled = self._states.clock(), self.state, True
        state.outcomes.at(now).successes += 1
        state.seconds_per_token.add(self.seconds / tokens if tokens else self.seconds, now)
        if stream and self.first_token:
            state.first_tokens.add(self.first_token, now)
        self._end(None, stream=stream)

    def failed(self, kind: ErrorClass, reason: str) -> None:
        """What the request itself is to blame for is counted by class alone."""
        now, state = self._states.clock(), self.state
        totals = state.outcomes.at(now)
        totals.classes[kind] += 1
        totals.failures += kind not in THE_REQUESTS_FAULT
        if kind is ErrorClass.TIMEOUT:
            state.seconds_per_token.add(_TIMED_OUT, now)
        if kind in THE_REQUESTS_FAULT:
            self.answers()
        self._end(reason)

    def leave(self) -> None:
        """The caller left, or nobody is to blame."""
        self._end(CANCELLED)

    def unused(self) -> None:
        """The call was never made."""
        if self.taken:
            self.state.requests.add(-1, self._states.clock())
        self.leave()

    def _end(self, reason: str | None, *, stream: bool = False) -> None:
        if not self.taken:
            return
        self.taken = False
        self.state.in_flight -= 1
        self.state.trials -= self.trial
        self._states.end(self.state, self.seconds, self.first_token or None if stream else None, reason)


def _another(one: Deployment, other: Deployment) -> bool:
    """Whether what was seen of one says nothing of the other."""
    return (one.model, one.api_base, one.references, one.provider_parameters) != (
        other.model,
        other.api_base,
        other.references,
        other.provider_parameters,
    )
