"""Attempts at providers, seen: a span for each, and counts by model group."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from contextlib import aclosing, contextmanager
from typing import Final

from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import Span, Status, StatusCode

from libs import correlation, semantics
from libs.metrics import Metrics, Names
from services.router.model import (
    ChatCall,
    Chunk,
    Credentials,
    Deployment,
    EmbedCall,
    Embedded,
    Facts,
    Failure,
    RerankCall,
    Reranked,
    TokenCount,
    Usage,
)
from services.router.service import Upstream

_CANCELLED: Final = "CANCELLED"


class Attempts:
    """An Observer of the Router: how attempts end, and which deployments cool down."""

    def __init__(self, metrics: Metrics) -> None:
        self._groups = Names()
        of = ("model_name",)
        self._ended = metrics.counter("router_attempts_total", "Attempts at deployments.", (*of, "outcome"))
        self._seconds = metrics.histogram("router_attempt_seconds", "Duration of attempts.", of)
        self._first = metrics.histogram("router_first_token_seconds", "Time to the first token of answers.", of)
        self._cooldowns = metrics.counter("router_cooldowns_total", "Deployments that began to cool down.")
        self._tokens = metrics.counter("router_tokens_total", "Tokens by model group.", (*of, "kind"))
        self._cost = metrics.counter("router_cost_usd_total", "US dollars by model group, where prices are known.", of)

    def began(self, tenant: str, deployment: Deployment) -> None:
        """Counted when it ends."""

    def ended(
        self, tenant: str, deployment: Deployment, seconds: float, first_token: float | None, reason: str | None
    ) -> None:
        group = self._groups(deployment.model_group)
        self._ended.labels(group, reason or "ok").inc()
        self._seconds.labels(group).observe(seconds)
        if first_token is not None:
            self._first.labels(group).observe(first_token)

    def cooling(self, tenant: str, deployment_id: str, until: float) -> None:
        if until:
            self._cooldowns.inc()

    def took(self, deployment: Deployment, usage: Usage | None, cost: float | None) -> None:
        group = self._groups(deployment.model_group)
        if usage:
            self._tokens.labels(group, "input").inc(usage.input_tokens)
            self._tokens.labels(group, "output").inc(usage.output_tokens)
        if cost:
            self._cost.labels(group).inc(cost)


class ObservedUpstream:
    def __init__(self, upstream: Upstream, provider: TracerProvider | None, attempts: Attempts) -> None:
        self._upstream, self._attempts = upstream, attempts
        self._tracer = provider.get_tracer(__name__) if provider else trace.NoOpTracer()

    async def chat(
        self, deployment: Deployment, credentials: Credentials, call: ChatCall
    ) -> AsyncGenerator[Chunk, None]:
        began = time.perf_counter()
        with self._attempt("chat", deployment) as span:
            async with aclosing(self._upstream.chat(deployment, credentials, call)) as chunks:
                async for chunk in chunks:
                    if began:
                        span.set_attributes(semantics.first_piece(time.perf_counter() - began))
                        began = 0.0
                    if chunk.finish_reason:
                        self._attempts.took(deployment, chunk.usage, chunk.cost)
                    yield chunk

    async def embed(self, deployment: Deployment, credentials: Credentials, call: EmbedCall) -> Embedded:
        with self._attempt("embed", deployment):
            embedded = await self._upstream.embed(deployment, credentials, call)
        self._attempts.took(deployment, embedded.usage, embedded.cost)
        return embedded

    async def rerank(self, deployment: Deployment, credentials: Credentials, call: RerankCall) -> Reranked:
        with self._attempt("rerank", deployment):
            reranked = await self._upstream.rerank(deployment, credentials, call)
        self._attempts.took(deployment, None, reranked.cost)
        return reranked

    async def count_tokens(self, deployment: Deployment, call: ChatCall) -> TokenCount:
        return await self._upstream.count_tokens(deployment, call)

    async def facts(self, deployment: Deployment) -> Facts:
        return await self._upstream.facts(deployment)

    async def problem(self, deployment: Deployment) -> str:
        return await self._upstream.problem(deployment)

    @contextmanager
    def _attempt(self, what: str, deployment: Deployment) -> Iterator[Span]:
        """Not the current span: a piece is handed on in the middle of it."""
        said = semantics.attempt(deployment.deployment_id, deployment.model_group, deployment.model)
        if execution := correlation.current():
            said[semantics.EXECUTION] = execution
        span = self._tracer.start_span(
            f"attempt {what} {deployment.model_group}", kind=trace.SpanKind.CLIENT, attributes=said
        )
        try:
            yield span
        except BaseException as error:
            reason = error.error.reason_code if isinstance(error, Failure) else _CANCELLED
            span.set_attribute(semantics.REASON, reason)
            span.set_status(Status(StatusCode.ERROR, reason))
            raise
        finally:
            span.end()


def watch(
    metrics: Metrics, health: Callable[[], Mapping[tuple[str, str], int]], lookups: Callable[[], Mapping[str, int]]
) -> None:
    """What is read when somebody asks: deployments by model group and state, and the response cache."""
    groups = Names()

    def deployments() -> Mapping[tuple[str, ...], float]:
        counted: dict[tuple[str, ...], float] = {}
        for (group, state), number in health().items():
            key = (groups(group), state)
            counted[key] = counted.get(key, 0) + number
        return counted

    labels = ("model_name", "state")
    metrics.measured("router_deployments", "Deployments by model group and state of health.", labels, deployments)
    metrics.counted("router_cache_lookups_total", "Looks into the response cache.", ("result",), lambda: {**lookups()})
