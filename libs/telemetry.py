"""Traces, exported over OTLP when an endpoint is configured, else off."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from libs.config import Settings

OPEN_SERVICES: Final = ("/grpc.health.", "/grpc.reflection.")
_TRACEPARENT: Final = "traceparent"
_LIMITS: Final = SpanLimits(max_span_attributes=1024, max_attribute_length=16 * 1024)
"""A conversation is many attributes, of any length."""


@contextmanager
def exporting(settings: Settings) -> Iterator[TracerProvider | None]:
    """The provider for this process; spans are flushed on the way out."""
    if settings.otlp_endpoint is None:
        yield None
        return
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter

    provider = TracerProvider(
        sampler=ParentBased(TraceIdRatioBased(settings.trace_sample_ratio)),
        resource=Resource.create({"service.name": f"dynamic-agents-{settings.service}"}),
        span_limits=_LIMITS,
    )
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=settings.otlp_endpoint)))
    try:
        yield provider
    finally:
        provider.shutdown()


def trace_headers() -> dict[str, str]:
    """`traceparent`, and `tracestate` where there is one, of the current span; nothing where nothing is traced."""
    headers: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(headers)
    return headers


def traceparent() -> str:
    """Where the current span stands, as W3C writes it; empty outside of any trace."""
    return trace_headers().get(_TRACEPARENT, "")


def context_of(traceparent: str) -> Context:
    return TraceContextTextMapPropagator().extract({_TRACEPARENT: traceparent})


def records() -> bool:
    """Whether the current call is traced."""
    return trace.get_current_span().is_recording()


def link(traceparent: str) -> None:
    """Links the current span to another trace, which it looks at."""
    current, found = trace.get_current_span(), trace.get_current_span(context_of(traceparent)).get_span_context()
    if found.is_valid and found.trace_id != current.get_span_context().trace_id:
        current.add_link(found)


def server_interceptors(provider: TracerProvider | None) -> list[Any]:
    """Health and reflection are not traced: probes would outnumber all else."""
    if provider is None:
        return []
    from opentelemetry.instrumentation.grpc import aio_server_interceptor

    return [aio_server_interceptor(tracer_provider=provider, filter_=_is_traced)]


def _is_traced(call: Any) -> bool:
    return not str(call.method).startswith(OPEN_SERVICES)


def client_interceptors(provider: TracerProvider | None) -> list[Any]:
    if provider is None:
        return []
    from opentelemetry.instrumentation.grpc import aio_client_interceptors

    return list(aio_client_interceptors(tracer_provider=provider))
