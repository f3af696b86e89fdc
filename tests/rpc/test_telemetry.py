"""Spans reach an OTLP collector, and nothing is sent where none is configured."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
from dynamicagents.registry.v1 import agent_service_pb2, agent_service_pb2_grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc

from libs import telemetry
from services.registry.app import app
from services.registry.config import RegistrySettings
from tests import harness


class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    def __init__(self) -> None:
        self.spans: list[str] = []

    def Export(
        self, request: trace_service_pb2.ExportTraceServiceRequest, context: Any
    ) -> trace_service_pb2.ExportTraceServiceResponse:
        for resource in request.resource_spans:
            service = next(a.value.string_value for a in resource.resource.attributes if a.key == "service.name")
            self.spans += [f"{service} {span.name}" for scope in resource.scope_spans for span in scope.spans]
        return trace_service_pb2.ExportTraceServiceResponse()


async def test_spans_are_exported_where_an_endpoint_is_set(make_settings: Callable[..., Any]) -> None:
    collector, server = Collector(), grpc.server(ThreadPoolExecutor(1))
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(collector, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    settings = make_settings(RegistrySettings, otlp_endpoint=f"http://127.0.0.1:{port}")
    with telemetry.exporting(settings) as provider:
        async with harness.running(app, settings, provider) as (_, channel):
            stub = agent_service_pb2_grpc.AgentServiceStub(channel)
            await stub.ListAgents(agent_service_pb2.ListAgentsRequest())
    server.stop(None)
    name = "dynamicagents.registry.v1.AgentService/ListAgents"
    assert [span.replace("/dynamic", "dynamic") for span in collector.spans] == [f"dynamic-agents-registry {name}"]


def test_off_without_an_endpoint(make_settings: Callable[..., Any]) -> None:
    with telemetry.exporting(make_settings(RegistrySettings)) as provider:
        assert provider is None
    assert telemetry.server_interceptors(None) == telemetry.client_interceptors(None) == []
