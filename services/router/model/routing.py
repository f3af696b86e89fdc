"""Who may answer, and how one of them is chosen."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Final

OFFLINE_GROUP: Final = "offline"
OFFLINE_PROVIDER: Final = "offline"
ANY_GROUP: Final = "*"
DEFAULT_TAG: Final = "default"
CAPABILITIES: Final = frozenset({"tools", "parallel_tools", "vision", "json_schema", "reasoning", "audio", "prefill"})


class Lane(StrEnum):
    AUTOMATIC = "automatic"
    DIRECT = "direct"
    LIBRARY = "library"


class Strategy(StrEnum):
    SIMPLE_SHUFFLE = "simple_shuffle"
    LEAST_BUSY = "least_busy"
    USAGE_BASED = "usage_based"
    LATENCY_BASED = "latency_based"
    COST_BASED = "cost_based"
    SCORE_COST = "score_cost"
    SCORE_SPEED = "score_speed"
    SCORE_QUALITY = "score_quality"
    SCORE_BALANCED = "score_balanced"


class ErrorClass(StrEnum):
    BAD_REQUEST = "bad_request"
    AUTHENTICATION = "authentication"
    TIMEOUT = "timeout"
    RATE_LIMIT = "rate_limit"
    CONTENT_POLICY = "content_policy"
    INTERNAL_SERVER = "internal_server"


ErrorCounts = Mapping[ErrorClass, int]


@dataclass(frozen=True, slots=True)
class Pricing:
    """US dollars per token; None is not known."""

    input: float | None = None
    output: float | None = None
    cached_input: float | None = None


@dataclass(frozen=True, slots=True)
class Deployment:
    deployment_id: str
    model_group: str
    model: str
    """LiteLLM's name, provider first."""
    api_base: str = ""
    key_reference: str = ""
    weight: float | None = None
    rpm: int | None = None
    tpm: int | None = None
    order: int = 0
    tags: tuple[str, ...] = ()
    max_parallel_requests: int | None = None
    pricing: Pricing = Pricing()
    timeout: float | None = None
    cooldown: float | None = None
    quality: float = 0.5
    credential_references: Mapping[str, str] = field(default_factory=dict)
    provider_parameters: Mapping[str, str] = field(default_factory=dict)
    context_window: int | None = None
    capabilities: tuple[str, ...] = ()
    """In place of LiteLLM's figures; "!" before a name denies it."""
    lane: Lane = Lane.AUTOMATIC

    @property
    def provider(self) -> str:
        return self.model.partition("/")[0]

    @property
    def is_offline(self) -> bool:
        return self.provider == OFFLINE_PROVIDER

    @property
    def share(self) -> float:
        return 1.0 if self.weight is None else self.weight

    @property
    def references(self) -> Mapping[str, str]:
        """Every key reference, by LiteLLM's parameter name."""
        return (
            {"api_key": self.key_reference, **self.credential_references}
            if self.key_reference
            else (self.credential_references)
        )


@dataclass(frozen=True, slots=True)
class Credentials:
    """The values of a deployment's references, for one call."""

    api_key: str | None = field(default=None, repr=False)
    parameters: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Further ones, by LiteLLM's parameter name."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of a deployment's model."""

    mode: str = "chat"
    """"chat", "embedding" or "rerank"."""
    capabilities: frozenset[str] = frozenset()
    context_window: int | None = None
    max_output_tokens: int | None = None
    pricing: Pricing = Pricing()

    def corrected(self, deployment: Deployment) -> Facts:
        """The deployment's own figures go before LiteLLM's."""
        denied = {name[1:] for name in deployment.capabilities if name.startswith("!")}
        claimed = {name for name in deployment.capabilities if not name.startswith("!")}
        given = deployment.pricing
        return replace(
            self,
            capabilities=frozenset((self.capabilities | claimed) - denied),
            context_window=deployment.context_window or self.context_window,
            pricing=Pricing(
                self.pricing.input if given.input is None else given.input,
                self.pricing.output if given.output is None else given.output,
                self.pricing.cached_input if given.cached_input is None and given.input is None else given.cached_input,
            ),
        )


@dataclass(frozen=True, slots=True)
class StrategySettings:
    latency_window: float = 3600.0
    lowest_latency_buffer: float = 0.0
    max_latency_samples: int = 10


class BudgetScope(StrEnum):
    TENANT = "tenant"
    SUBJECT = "subject"
    TAG = "tag"
    DEPLOYMENT = "deployment"
    PROVIDER = "provider"


@dataclass(frozen=True, slots=True)
class Budget:
    scope: BudgetScope
    name: str
    """Of the subject, tag, deployment or provider; empty for the tenant."""
    max_cost: float
    period: float


@dataclass(frozen=True, slots=True)
class Guardrail:
    name: str
    kind: str
    input: bool = False
    output: bool = False
    arguments: Mapping[str, str] = field(default_factory=dict)


class CacheBackend(StrEnum):
    MEMORY = "memory"
    REDIS = "redis"


@dataclass(frozen=True, slots=True)
class ResponseCache:
    backend: CacheBackend = CacheBackend.MEMORY
    ttl: float = 600.0
    model_groups: frozenset[str] = frozenset()
    """Empty: all."""


@dataclass(frozen=True, slots=True)
class RoutingTable:
    """A router configuration, never changed: a new one takes its place."""

    groups: Mapping[str, tuple[Deployment, ...]] = field(default_factory=dict)
    num_retries: int = 2
    timeout: float = 120.0
    """Longest silence of a provider, in seconds."""
    strategy: Strategy = Strategy.SIMPLE_SHUFFLE
    strategy_settings: StrategySettings = StrategySettings()
    retry_policy: ErrorCounts = field(default_factory=dict)
    group_retry_policies: Mapping[str, ErrorCounts] = field(default_factory=dict)
    retry_after: float = 0.0
    fallbacks: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    context_window_fallbacks: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    content_policy_fallbacks: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    default_fallbacks: tuple[str, ...] = ()
    max_fallbacks: int = 5
    allowed_fails: int | None = None
    allowed_fails_policy: ErrorCounts = field(default_factory=dict)
    cooldown: float = 5.0
    disable_cooldowns: bool = False
    tag_filtering: bool = False
    match_all_tags: bool = False
    pre_call_checks: bool = False
    cache: ResponseCache | None = None
    share_state: bool = True
    budgets: tuple[Budget, ...] = ()
    guardrails: tuple[Guardrail, ...] = ()
    aliases: Mapping[str, str] = field(default_factory=dict)
    first_token_timeout: float | None = None
    probe_interval: float | None = None
    revision: int = 0

    def group_of(self, name: str) -> str:
        """The group that a name stands for."""
        return self.aliases.get(name, name)

    def deployments(self) -> Iterable[Deployment]:
        return (deployment for group in self.groups.values() for deployment in group)


OFFLINE: Final = RoutingTable({OFFLINE_GROUP: (Deployment("offline", OFFLINE_GROUP, "offline/demo"),)})


@dataclass(frozen=True, slots=True)
class ModelGroup:
    name: str
    models: tuple[str, ...]
    offline: bool
    capabilities: tuple[str, ...] = ()
    """What every deployment can do."""
    context_window: int = 0
    """The least, as are all that follow; 0 where it is not known."""
    max_output_tokens: int = 0
    input_cost: float | None = None
    output_cost: float | None = None
    mode: str = "chat"


def grouped(deployments: Iterable[Deployment]) -> Mapping[str, tuple[Deployment, ...]]:
    groups: dict[str, list[Deployment]] = {}
    for deployment in deployments:
        groups.setdefault(deployment.model_group, []).append(deployment)
    return {name: tuple(group) for name, group in groups.items()}


def routing_table(deployments: Iterable[Deployment], *, num_retries: int = 2, timeout: float = 120.0) -> RoutingTable:
    return RoutingTable(grouped(deployments), num_retries, timeout)
