"""Registry's router configuration -> the Router's table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from dynamicagents.registry.v1 import router_config_pb2
from google.protobuf.message import Message

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
    grouped,
)

_STRATEGIES: Final = {
    router_config_pb2.ROUTING_STRATEGY_UNSPECIFIED: Strategy.SIMPLE_SHUFFLE,
    **{router_config_pb2.RoutingStrategy.Value(f"ROUTING_STRATEGY_{strategy.name}"): strategy for strategy in Strategy},
}
STRATEGY_NUMBERS: Final = {strategy: number for number, strategy in _STRATEGIES.items()}
_LANES: Final = {
    router_config_pb2.UPSTREAM_LANE_UNSPECIFIED: Lane.AUTOMATIC,
    router_config_pb2.UPSTREAM_LANE_DIRECT: Lane.DIRECT,
    router_config_pb2.UPSTREAM_LANE_LIBRARY: Lane.LIBRARY,
}
_BACKENDS: Final = {
    router_config_pb2.CACHE_BACKEND_UNSPECIFIED: CacheBackend.MEMORY,
    router_config_pb2.CACHE_BACKEND_MEMORY: CacheBackend.MEMORY,
    router_config_pb2.CACHE_BACKEND_REDIS: CacheBackend.REDIS,
}
_UNSET: Final = RoutingTable()


def table(config: router_config_pb2.RouterConfig) -> RoutingTable:
    aliases = dict(config.model_group_aliases)
    return RoutingTable(
        groups=grouped(map(_deployment, config.deployments)),
        num_retries=_given(config, "num_retries", _UNSET.num_retries),
        timeout=_seconds(config, "timeout", _UNSET.timeout),
        strategy=_STRATEGIES.get(config.routing_strategy, Strategy.SIMPLE_SHUFFLE),
        strategy_settings=_strategy_settings(config.strategy_settings),
        retry_policy=_counts(config.retry_policy),
        group_retry_policies={
            aliases.get(name, name): _counts(policy) for name, policy in config.model_group_retry_policies.items()
        },
        retry_after=_seconds(config, "retry_after", 0.0),
        fallbacks=_fallbacks(config.fallbacks, aliases),
        context_window_fallbacks=_fallbacks(config.context_window_fallbacks, aliases),
        content_policy_fallbacks=_fallbacks(config.content_policy_fallbacks, aliases),
        default_fallbacks=tuple(config.default_fallbacks),
        max_fallbacks=_given(config, "max_fallbacks", _UNSET.max_fallbacks),
        allowed_fails=_given(config, "allowed_fails", None),
        allowed_fails_policy=_counts(config.allowed_fails_policy),
        cooldown=_seconds(config, "cooldown", _UNSET.cooldown),
        disable_cooldowns=config.disable_cooldowns,
        tag_filtering=config.enable_tag_filtering,
        match_all_tags=config.match_all_tags,
        pre_call_checks=config.enable_pre_call_checks,
        cache=_cache(config.cache, aliases) if config.HasField("cache") else None,
        share_state=not config.redis.disabled,
        budgets=tuple(map(_budget, config.budgets)),
        guardrails=tuple(map(_guardrail, config.guardrails)),
        aliases=aliases,
        first_token_timeout=_seconds(config, "first_token_timeout", None),
        probe_interval=_seconds(config, "probe_interval", None),
        revision=config.revision,
    )


def _deployment(deployment: router_config_pb2.Deployment) -> Deployment:
    return Deployment(
        deployment.deployment_id,
        deployment.model_group,
        deployment.model,
        deployment.api_base,
        deployment.api_key_reference,
        weight=_given(deployment, "weight", None),
        rpm=_given(deployment, "rpm", None),
        tpm=_given(deployment, "tpm", None),
        order=deployment.order,
        tags=tuple(deployment.tags),
        max_parallel_requests=_given(deployment, "max_parallel_requests", None),
        pricing=_pricing(deployment.pricing),
        timeout=_seconds(deployment, "timeout", None),
        cooldown=_seconds(deployment, "cooldown", None),
        quality=_given(deployment, "quality", 0.5),
        credential_references=dict(deployment.credential_references),
        provider_parameters=dict(deployment.provider_parameters),
        context_window=_given(deployment, "context_window", None),
        capabilities=tuple(deployment.capabilities),
        lane=_LANES.get(deployment.lane, Lane.AUTOMATIC),
    )


def _pricing(pricing: router_config_pb2.Pricing) -> Pricing:
    names = ("input_cost_per_token", "output_cost_per_token", "cached_input_cost_per_token")
    return Pricing(*(_given(pricing, name, None) for name in names))


def _strategy_settings(settings: router_config_pb2.StrategySettings) -> StrategySettings:
    unset = StrategySettings()
    return StrategySettings(
        _seconds(settings, "latency_window", unset.latency_window),
        settings.lowest_latency_buffer,
        _given(settings, "max_latency_samples", unset.max_latency_samples),
    )


def _counts(policy: router_config_pb2.ErrorClassPolicy) -> Mapping[ErrorClass, int]:
    return {kind: getattr(policy, kind) for kind in ErrorClass if policy.HasField(kind.value)}


def _fallbacks(
    fallbacks: Iterable[router_config_pb2.Fallback], aliases: Mapping[str, str]
) -> Mapping[str, tuple[str, ...]]:
    return {aliases.get(f.model_group, f.model_group): tuple(f.fallback_groups) for f in fallbacks}


def _cache(cache: router_config_pb2.ResponseCache, aliases: Mapping[str, str]) -> ResponseCache:
    groups = frozenset(aliases.get(name, name) for name in cache.model_groups)
    backend = _BACKENDS.get(cache.backend, CacheBackend.MEMORY)
    return ResponseCache(backend, _seconds(cache, "ttl", ResponseCache().ttl), groups)


def _budget(budget: router_config_pb2.CostBudget) -> Budget:
    scope = budget.WhichOneof("scope") or "tenant"
    name = "" if scope == "tenant" else getattr(budget, scope)
    kind = BudgetScope.DEPLOYMENT if scope == "deployment_id" else BudgetScope(scope)
    return Budget(kind, name, budget.max_cost_usd, budget.period.ToNanoseconds() / 1e9)


def _guardrail(guardrail: router_config_pb2.RouterGuardrail) -> Guardrail:
    return Guardrail(guardrail.name, guardrail.kind, guardrail.input, guardrail.output, dict(guardrail.arguments))


def _given(message: Message, name: str, default: Any) -> Any:
    return getattr(message, name) if message.HasField(name) else default


def _seconds(message: Message, name: str, default: Any) -> Any:
    return getattr(message, name).ToNanoseconds() / 1e9 if message.HasField(name) else default
