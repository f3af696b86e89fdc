"""The Prometheus endpoint of each server."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
import yaml
from dynamicagents.registry.v1 import agent_pb2, agent_service_pb2, agent_service_pb2_grpc

from libs.config import StartError
from libs.metrics import OTHER, Names
from services.registry.app import app as registry_app
from services.registry.config import RegistrySettings
from services.router.app import app as router_app
from services.router.config import RouterSettings
from services.secrets.app import app as secrets_app
from services.secrets.config import SecretsSettings
from tests import harness, metrics_page, router_bench
from tests.rpc.conftest import rest
from tests.scripted_router import call, calls, text

Bench = Callable[..., Any]
DEPLOY = Path(__file__).parents[2] / "deploy"
AGENTS = "dynamicagents.registry.v1.AgentService"
EXECUTIONS = "dynamicagents.execution.v1.ExecutionService"


async def test_calls_are_counted(make_settings: Callable[..., Any]) -> None:
    async with harness.running(registry_app, make_settings(RegistrySettings, metrics_port=0)) as (server, channel):
        stub = agent_service_pb2_grpc.AgentServiceStub(channel)
        agent = agent_pb2.Agent(agent_id="a", spec={"model": {"model": "m"}})
        await stub.CreateAgent(agent_service_pb2.CreateAgentRequest(agent=agent))
        for _ in range(2):
            await stub.GetAgent(agent_service_pb2.GetAgentRequest(agent_id="a"))
        with pytest.raises(grpc.aio.AioRpcError):
            await stub.GetAgent(agent_service_pb2.GetAgentRequest(agent_id="b"))
        page = await metrics_page.read(server.metrics_port)
    method = {"grpc_service": AGENTS, "grpc_method": "GetAgent", "grpc_type": "unary"}
    assert page.value("grpc_server_started_total", **method) == 3
    assert page.value("grpc_server_handled_total", **method, grpc_code="OK") == 2
    assert page.value("grpc_server_handled_total", **method, grpc_code="NOT_FOUND") == 1
    assert page.value("grpc_server_handling_seconds_count", **method) == 3
    assert page.value("grpc_server_in_flight") == 0
    assert page.value("registry_cache_lookups_total", result="hit") == 1
    assert page.value("process_resident_memory_bytes") > 0


async def test_a_run_is_counted(bench: Bench) -> None:
    at = await bench(metrics_port=0)
    at.router.turns = [calls(call("calculator", '{"expression": "6*7"}'), call("calculator", "{}", "c2")), text("42")]
    await at.create(tools=[{"tool_id": "builtin/calculator"}])
    await at.run()
    at.router.turns = [[60.0]]
    stream, _ = await at.begin()
    open_ = await metrics_page.read(at.server.metrics_port)
    stream.cancel()
    assert open_.value("executions", state="running") == 1
    assert open_.value("executions", state="queued") == 0
    assert open_.value("grpc_server_in_flight", grpc_method="ExecuteStream", grpc_type="server_stream") == 1
    assert open_.value("agent_requests_total") == 2
    assert open_.value("agent_duration_seconds_count") == 1
    assert open_.value("executions_ended_total", outcome="execution_completed") == 1
    assert open_.value("llm_tokens_used_total", model_name="any", kind="input") == 20
    assert open_.value("llm_cost_usd_total", model_name="any") == 0.5
    assert open_.value("llm_requests_total", model_name="any", outcome="ok") == 2
    assert open_.value("llm_first_piece_seconds_count", model_name="any") == 2
    assert open_.value("tool_calls_total", source="builtin", outcome="ok") == 1
    assert open_.value("event_commit_seconds_count") > 0
    assert open_.value("event_commit_events_sum") >= 5
    assert open_.labels("agent_requests_total", "agent_name") == {""}


async def test_who_is_told_apart_where_it_is_wanted(bench: Bench) -> None:
    at = await bench(metrics_port=0, metrics_labels=["agent", "tenant"])
    await at.create()
    at.router.turns = [[60.0]]
    stream, execution_id = await at.begin()
    await at.cancel(execution_id)
    await rest(stream)
    page = await metrics_page.read(at.server.metrics_port)
    whose = {"agent_name": "helper", "tenant": "default"}
    assert page.value("agent_requests_total", **whose) == 1
    assert page.value("agent_errors_total", **whose, error_type="CANCELLED") == 1


def test_names_are_few() -> None:
    names = Names(3)
    assert [names(name) for name in "abcda"] == ["a", "b", "c", OTHER, "a"]


async def test_a_port_in_use_stops_the_start(make_settings: Callable[..., Any]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        settings = make_settings(RegistrySettings, metrics_port=taken.getsockname()[1])
        with pytest.raises(StartError, match=r"registry cannot serve metrics on 127\.0\.0\.1"):
            async with registry_app(settings, None):
                pass


async def test_the_endpoint_is_where_the_server_is(make_settings: Callable[..., Any]) -> None:
    async with registry_app(make_settings(RegistrySettings, host="::1", metrics_port=0), None) as server:
        assert (await metrics_page.read(server.metrics_port, "[::1]")).names
        with pytest.raises(OSError, match="refused"):
            await metrics_page.read(server.metrics_port)
    async with registry_app(make_settings(RegistrySettings), None) as server:
        assert server.metrics_port is None


async def test_dashboards_and_alerts_ask_for_what_there_is(make_settings: Callable[..., Any], bench: Bench) -> None:
    at = await bench(metrics_port=0)
    there = (await metrics_page.read(at.server.metrics_port)).names
    await router_bench.library()
    for app, kind in ((registry_app, RegistrySettings), (secrets_app, SecretsSettings), (router_app, RouterSettings)):
        async with app(make_settings(kind, metrics_port=0), None) as server:
            there |= (await metrics_page.read(server.metrics_port)).names
    there |= {"hook_calls_total"}  # where a hook is named: tests/rpc/test_hooks.py
    asked = {name for expression in expressions() for name in _metrics(expression)}
    assert len(asked) > 30
    assert asked <= there, asked - there


def expressions() -> list[str]:
    """Those of the dashboards, with what Grafana puts in, and of the alerts."""
    found = []
    for path in sorted((DEPLOY / "dashboards").glob("*.json")):
        for panel in json.loads(path.read_text())["panels"]:
            found += [target["expr"] for target in panel["targets"]]
    for path in sorted((DEPLOY / "alerts").glob("*.yaml")):
        found += [rule["expr"] for group in yaml.safe_load(path.read_text())["groups"] for rule in group["rules"]]
    return [" ".join(one.replace("$__rate_interval", "5m").replace("$job", ".+").split()) for one in found]


def _metrics(expression: str) -> set[str]:
    bare = re.sub(r'"[^"]*"|\{[^}]*\}|\[[^]]*\]|by \([^)]*\)', " ", expression)
    return set(re.findall(r"[a-z][a-z0-9_]*_[a-z0-9_]+|\bexecutions\b", bare)) - {"histogram_quantile"}
