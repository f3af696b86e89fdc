"""Every field of a router configuration has its place in the Router's table."""

from __future__ import annotations

from typing import Any

import pytest
from dynamicagents.registry.v1 import router_config_pb2
from google.protobuf.json_format import ParseDict

from services.router.gateways import tables
from services.router.model import (
    Budget,
    BudgetScope,
    CacheBackend,
    Deployment,
    ErrorClass,
    Guardrail,
    Lane,
    Pricing,
    ResponseCache,
    RoutingTable,
    Strategy,
    StrategySettings,
)

CONFIG: dict[str, Any] = {
    "deployments": [{"deployment_id": "a", "model_group": "g", "model": "openai/x"}],
    "num_retries": 0,
    "timeout": "1.5s",
    "revision": "7",
    "routing_strategy": "ROUTING_STRATEGY_SCORE_BALANCED",
    "strategy_settings": {"latency_window": "9s", "lowest_latency_buffer": 0.5, "max_latency_samples": 3},
    "retry_policy": {"bad_request": 1, "authentication": 2, "timeout": 3},
    "model_group_retry_policies": {"best": {"rate_limit": 0}},
    "retry_after": "2s",
    "fallbacks": [{"model_group": "best", "fallback_groups": ["h"]}],
    "context_window_fallbacks": [{"model_group": "g", "fallback_groups": ["i"]}],
    "content_policy_fallbacks": [{"model_group": "*", "fallback_groups": ["best"]}],
    "default_fallbacks": ["h", "i"],
    "max_fallbacks": 0,
    "allowed_fails": 0,
    "allowed_fails_policy": {"content_policy": 1, "internal_server": 2},
    "cooldown": "0s",
    "disable_cooldowns": True,
    "enable_tag_filtering": True,
    "match_all_tags": True,
    "enable_pre_call_checks": True,
    "cache": {"backend": "CACHE_BACKEND_REDIS", "ttl": "5s", "model_groups": ["best"]},
    "redis": {"disabled": True},
    "budgets": [
        {"tenant": True, "max_cost_usd": 1, "period": "60s"},
        {"deployment_id": "a", "max_cost_usd": 2, "period": "60s"},
        {"tag": "t", "max_cost_usd": 3, "period": "60s"},
    ],
    "guardrails": [{"name": "n", "kind": "k", "output": True, "arguments": {"a": "b"}}],
    "model_group_aliases": {"best": "g"},
    "first_token_timeout": "3s",
    "probe_interval": "30s",
}
DEPLOYMENT: dict[str, Any] = {
    "deployment_id": "a",
    "model_group": "g",
    "model": "azure/x",
    "api_base": "http://127.0.0.1",
    "api_key_reference": "os.environ/A",
    "weight": 0.0,
    "labels": {"a": "b"},
    "rpm": 0,
    "tpm": "5",
    "order": 3,
    "tags": ["t"],
    "max_parallel_requests": 2,
    "pricing": {"input_cost_per_token": 0.0, "output_cost_per_token": 2.0, "cached_input_cost_per_token": 1.0},
    "timeout": "4s",
    "cooldown": "0s",
    "quality": 0.0,
    "credential_references": {"azure_ad_token": "os.environ/B"},
    "provider_parameters": {"api_version": "1"},
    "context_window": "100",
    "capabilities": ["!tools", "vision"],
    "lane": "UPSTREAM_LANE_LIBRARY",
}


def table(config: dict[str, Any]) -> RoutingTable:
    return tables.table(ParseDict(config, router_config_pb2.RouterConfig()))


def test_the_samples_have_every_field() -> None:
    set_by_server = {"etag", "update_time"}
    assert {*CONFIG} == {*router_config_pb2.RouterConfig.DESCRIPTOR.fields_by_name} - set_by_server
    assert {*DEPLOYMENT} == {*router_config_pb2.Deployment.DESCRIPTOR.fields_by_name}


def test_a_configuration() -> None:
    found = table(CONFIG)
    assert found == RoutingTable(
        groups={"g": (Deployment("a", "g", "openai/x"),)},
        num_retries=0,
        timeout=1.5,
        strategy=Strategy.SCORE_BALANCED,
        strategy_settings=StrategySettings(9.0, 0.5, 3),
        retry_policy={ErrorClass.BAD_REQUEST: 1, ErrorClass.AUTHENTICATION: 2, ErrorClass.TIMEOUT: 3},
        group_retry_policies={"g": {ErrorClass.RATE_LIMIT: 0}},
        retry_after=2.0,
        fallbacks={"g": ("h",)},
        context_window_fallbacks={"g": ("i",)},
        content_policy_fallbacks={"*": ("best",)},
        default_fallbacks=("h", "i"),
        max_fallbacks=0,
        allowed_fails=0,
        allowed_fails_policy={ErrorClass.CONTENT_POLICY: 1, ErrorClass.INTERNAL_SERVER: 2},
        cooldown=0.0,
        disable_cooldowns=True,
        tag_filtering=True,
        match_all_tags=True,
        pre_call_checks=True,
        cache=ResponseCache(CacheBackend.REDIS, 5.0, frozenset({"g"})),
        share_state=False,
        budgets=(
            Budget(BudgetScope.TENANT, "", 1.0, 60.0),
            Budget(BudgetScope.DEPLOYMENT, "a", 2.0, 60.0),
            Budget(BudgetScope.TAG, "t", 3.0, 60.0),
        ),
        guardrails=(Guardrail("n", "k", input=False, output=True, arguments={"a": "b"}),),
        aliases={"best": "g"},
        first_token_timeout=3.0,
        probe_interval=30.0,
        revision=7,
    )


def test_a_deployment() -> None:
    assert table({"deployments": [DEPLOYMENT]}).groups["g"] == (
        Deployment(
            "a",
            "g",
            "azure/x",
            "http://127.0.0.1",
            "os.environ/A",
            weight=0.0,
            rpm=0,
            tpm=5,
            order=3,
            tags=("t",),
            max_parallel_requests=2,
            pricing=Pricing(0.0, 2.0, 1.0),
            timeout=4.0,
            cooldown=0.0,
            quality=0.0,
            credential_references={"azure_ad_token": "os.environ/B"},
            provider_parameters={"api_version": "1"},
            context_window=100,
            capabilities=("!tools", "vision"),
            lane=Lane.LIBRARY,
        ),
    )


def test_what_is_unset_has_the_contracts_defaults() -> None:
    assert table({}) == RoutingTable()
    deployment = {"deployment_id": "a", "model_group": "g", "model": "openai/x"}
    assert table({"deployments": [deployment]}).groups["g"] == (Deployment("a", "g", "openai/x"),)


@pytest.mark.parametrize("name", [n for n in router_config_pb2.RoutingStrategy.keys() if "UNSPECIFIED" not in n])  # noqa: SIM118
def test_every_strategy(name: str) -> None:
    assert f"ROUTING_STRATEGY_{table({'routing_strategy': name}).strategy.name}" == name
