"""A Router whose providers do as the test says, with a clock that the test moves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from libs import errors, identity
from services.router.model import (
    ChatCall,
    Chunk,
    Credentials,
    Deployment,
    EmbedCall,
    Embedded,
    Facts,
    Failure,
    FinishReason,
    RerankCall,
    Reranked,
    RoutingTable,
    TokenCount,
    Usage,
    grouped,
)
from services.router.service import Router
from services.router.service.budgets import Ledger
from services.router.service.state import DeploymentState, DeploymentStates

CALLER = identity.Caller("default", "test", frozenset({"*"}))
CALL = ChatCall("g", [{"role": "user", "content": "hello"}], stream=True)
LAST = Chunk(finish_reason=FinishReason.STOP, usage=Usage(10, 10, 20), cost=0.5)
ANSWER = [Chunk("he"), Chunk("llo"), LAST]


def down(status: int | None = 500) -> Failure:
    return Failure(errors.Unavailable("down", reason="UPSTREAM_UNAVAILABLE"), may_pass=True, status=status)


def limited(retry_after: float | None = None) -> Failure:
    error = errors.ResourceExhausted("slow", reason="UPSTREAM_RATE_LIMITED", retry_after=retry_after)
    return Failure(error, may_pass=True, status=429)


def refused(status: int = 401) -> Failure:
    return Failure(errors.Internal("no", reason="UPSTREAM_AUTH"), may_pass=False, status=status)


def rejected(status: int = 400) -> Failure:
    return Failure(errors.InvalidArgument([], message="bad", reason="UPSTREAM_REJECTED"), may_pass=False, status=status)


def too_long() -> Failure:
    error = errors.InvalidArgument([], message="long", reason="CONTEXT_WINDOW_EXCEEDED")
    return Failure(error, may_pass=False, status=400)


def indecent() -> Failure:
    return Failure(errors.FailedPrecondition("no", reason="CONTENT_POLICY"), may_pass=False, status=400)


class Clock:
    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


Turn = list[Any]
"""Chunks to send, a Failure to end with, seconds to wait, or an event to wait for."""


@dataclass
class Script:
    """All ports of a Router. Each deployment plays one turn a call, the last one again and again."""

    table_now: RoutingTable
    turns: dict[str, list[Turn]] = field(default_factory=dict)
    known: dict[str, Facts] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    calls: list[Any] = field(default_factory=list)
    credentials: list[Credentials] = field(default_factory=list)
    resolved: list[Sequence[str]] = field(default_factory=list)
    closed: int = 0
    clock: Clock = field(default_factory=Clock)

    def __post_init__(self) -> None:
        self.states, self.ledger = DeploymentStates(self.clock), Ledger(self.clock)

    def router(self, **ports: Any) -> Router:
        return Router(self, self, self, offline=False, states=self.states, ledger=self.ledger, **ports)

    def state(self, deployment_id: str) -> DeploymentState:
        found = self.states.find(CALLER.tenant, deployment_id)
        assert found is not None
        return found

    async def table(self, caller: identity.Caller) -> RoutingTable:
        return self.table_now

    async def resolve(self, references: Sequence[str], *, refresh: bool = False) -> Sequence[str]:
        self.resolved.append(references)
        return [f"{'new' if refresh else 'old'} value of {reference}" for reference in references]

    async def chat(
        self, deployment: Deployment, credentials: Credentials, call: ChatCall
    ) -> AsyncGenerator[Chunk, None]:
        self.credentials.append(credentials)
        try:
            for step in self._turn(deployment.deployment_id, call):
                if isinstance(step, Failure):
                    raise step
                if isinstance(step, float):
                    await asyncio.sleep(step)
                elif isinstance(step, asyncio.Event):
                    await step.wait()
                else:
                    yield step
        finally:
            self.closed += 1

    async def embed(self, deployment: Deployment, credentials: Credentials, call: EmbedCall) -> Embedded:
        answered = self._one(deployment, call)
        assert isinstance(answered, Embedded)
        return answered

    async def rerank(self, deployment: Deployment, credentials: Credentials, call: RerankCall) -> Reranked:
        answered = self._one(deployment, call)
        assert isinstance(answered, Reranked)
        return answered

    def _one(self, deployment: Deployment, call: Any) -> Any:
        step = self._turn(deployment.deployment_id, call)[0]
        if isinstance(step, Failure):
            raise step
        return step

    def _turn(self, deployment_id: str, call: Any) -> Turn:
        turns, number = self.turns.get(deployment_id, [ANSWER]), self.asked.count(deployment_id)
        self.asked.append(deployment_id)
        self.calls.append(call)
        return turns[min(number, len(turns) - 1)]

    async def count_tokens(self, deployment: Deployment, call: ChatCall) -> TokenCount:
        return TokenCount(len(str(call.messages)) // 4)

    async def facts(self, deployment: Deployment) -> Facts:
        return self.known.get(deployment.deployment_id, Facts())

    async def problem(self, deployment: Deployment) -> str:
        return "cannot be called" if deployment.model == "openai/broken" else ""


def script(*deployments: Deployment, turns: dict[str, list[Turn]] | None = None, **settings: Any) -> Script:
    settings = {"num_retries": 2, "timeout": 5.0, **settings}
    return Script(RoutingTable(grouped(deployments), **settings), turns or {})


def deployment(deployment_id: str, group: str = "g", **fields: Any) -> Deployment:
    return Deployment(deployment_id, group, fields.pop("model", "openai/x"), **fields)


def configured(made: Script, **settings: Any) -> None:
    """Another table takes the place of the one in force."""
    made.table_now = replace(made.table_now, **settings)
    made.states.follow(CALLER.tenant, made.table_now)
