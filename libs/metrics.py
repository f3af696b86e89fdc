"""Prometheus metrics of one server, and the endpoint where they are read.

Labels have few values: methods, codes, reasons, states, model groups. Names that callers choose go through `Names`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    ProcessCollector,
    start_http_server,
)
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from libs.config import Settings, StartError

SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
OTHER: Final = "other"
_MOST_NAMES: Final = 100

Labelled = Mapping[Any, float]


class Metrics:
    """The registry of one server. What the domain counts itself is read from there when somebody asks."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        GCCollector(registry=self.registry)

    def counter(self, name: str, documentation: str, labels: Sequence[str] = ()) -> Counter:
        return Counter(name, documentation, labels, registry=self.registry)

    def gauge(self, name: str, documentation: str, labels: Sequence[str] = ()) -> Gauge:
        return Gauge(name, documentation, labels, registry=self.registry)

    def histogram(
        self, name: str, documentation: str, labels: Sequence[str] = (), buckets: Sequence[float] = SECONDS
    ) -> Histogram:
        return Histogram(name, documentation, labels, buckets=buckets, registry=self.registry)

    def counted(self, name: str, documentation: str, labels: Sequence[str], read: Callable[[], Labelled]) -> None:
        """A counter that is kept elsewhere; `read` gives its values by the values of the labels."""
        self.registry.register(_Elsewhere(lambda: CounterMetricFamily(name, documentation, labels=labels), read))

    def measured(self, name: str, documentation: str, labels: Sequence[str], read: Callable[[], Labelled]) -> None:
        """Likewise a gauge."""
        self.registry.register(_Elsewhere(lambda: GaugeMetricFamily(name, documentation, labels=labels), read))


class _Elsewhere(Collector):
    def __init__(
        self, family: Callable[[], CounterMetricFamily | GaugeMetricFamily], read: Callable[[], Labelled]
    ) -> None:
        self._family, self._read = family, read

    def describe(self) -> Iterable[Metric]:
        return [self._family()]

    def collect(self) -> Iterator[Metric]:
        family = self._family()
        for labels, value in self._read().items():
            family.add_metric([labels] if isinstance(labels, str) else list(labels), value)
        yield family


class Names:
    """The first hundred names are told apart; further ones are `other`, so that nobody can make series without end."""

    def __init__(self, most: int = _MOST_NAMES) -> None:
        self._known: set[str] = set()
        self._most = most

    def __call__(self, name: str) -> str:
        if name in self._known:
            return name
        if len(self._known) >= self._most:
            return OTHER
        self._known.add(name)
        return name


class Requests:
    """Rate, errors and duration of each method, under the names that gRPC's interceptors for Go and Java use."""

    def __init__(self, metrics: Metrics) -> None:
        method = ("grpc_type", "grpc_service", "grpc_method")
        self._started = metrics.counter("grpc_server_started_total", "Calls begun.", method)
        self._handled = metrics.counter("grpc_server_handled_total", "Calls ended, by code.", (*method, "grpc_code"))
        self._seconds = metrics.histogram("grpc_server_handling_seconds", "Duration of calls.", method)
        self._in_flight = metrics.gauge("grpc_server_in_flight", "Calls and streams that are open.", method)
        self._methods: dict[str, _Method] = {}

    def of(self, method: str, kind: str) -> _Method:
        known = self._methods.get(method)
        if known is None:
            _, service, name = method.split("/", 2)
            labels = (kind, service, name)
            known = self._methods[method] = _Method(
                self._started.labels(*labels),
                self._in_flight.labels(*labels),
                self._seconds.labels(*labels),
                self._handled,
                labels,
            )
        return known


class _Method:
    __slots__ = ("_codes", "_handled", "_in_flight", "_labels", "_seconds", "_started")

    def __init__(
        self, started: Counter, in_flight: Gauge, seconds: Histogram, handled: Counter, labels: tuple[str, ...]
    ) -> None:
        self._started, self._in_flight, self._seconds = started, in_flight, seconds
        self._handled, self._labels = handled, labels
        self._codes: dict[str, Counter] = {}

    def began(self) -> None:
        self._started.inc()
        self._in_flight.inc()

    def ended(self, code: str, seconds: float) -> None:
        self._in_flight.dec()
        self._seconds.observe(seconds)
        if code not in self._codes:
            self._codes[code] = self._handled.labels(*self._labels, code)
        self._codes[code].inc()


@asynccontextmanager
async def exposed(settings: Settings, metrics: Metrics | None) -> AsyncIterator[int | None]:
    """Answers GET /metrics on the server's host, where `metrics_port` is set; gives the port."""
    if metrics is None or settings.metrics_port is None:
        yield None
        return
    host = settings.host.strip("[]")
    try:
        server, thread = start_http_server(settings.metrics_port, host, metrics.registry)
    except OSError as error:
        where = f"{host}:{settings.metrics_port}"
        raise StartError(f"{settings.service} cannot serve metrics on {where}: {error.strerror}") from None
    try:
        yield server.server_port
    finally:
        await asyncio.to_thread(server.shutdown)
        server.server_close()
        thread.join()
