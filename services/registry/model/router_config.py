"""The rules of a router configuration."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Final

from libs.errors import Violation
from services.registry.model import Spec
from services.registry.model.patterns import problem_of_pattern

NAME: Final = "default"
"""The id of the one router configuration of a tenant."""
OFFLINE_GROUP: Final = "offline"
ANY_GROUP: Final = "*"
MOST_DEPLOYMENTS: Final = 1000
_A_KEY: Final = "is neither os.environ/NAME nor secret:provider:field; a key itself is refused"
_SECRET_PARAMETER: Final = re.compile(r"(^|_)(key|token|secret|password|credentials?)($|_)", re.IGNORECASE)
_REFERENCE: Final = re.compile(
    r"os\.environ/[A-Za-z_][A-Za-z0-9_]*"
    r"|(secret|user):[a-z0-9][a-z0-9_-]{0,62}(/[A-Za-z0-9][A-Za-z0-9._ -]{0,199})?:[A-Za-z0-9_]{1,63}"
)


def check_router_config(spec: Spec) -> list[Violation]:
    found: list[Violation] = []
    seen: set[str] = set()
    if len(spec.get("deployments", ())) > MOST_DEPLOYMENTS:
        return [Violation("router_config.deployments", f"are more than {MOST_DEPLOYMENTS}")]
    for index, deployment in enumerate(spec.get("deployments", ())):
        field = f"router_config.deployments[{index}]"
        if deployment["deployment_id"] in seen:
            found.append(Violation(f"{field}.deployment_id", f"{deployment['deployment_id']} is used twice"))
        seen.add(deployment["deployment_id"])
        found += check_deployment(deployment, field)
    return [*found, *_groups(spec), *_budgets(spec, seen), *_guardrails(spec)]


def _groups(spec: Spec) -> Iterator[Violation]:
    """Every group that is named has a deployment, under its own name or another."""
    groups = {deployment.get("model_group") for deployment in spec.get("deployments", ())}
    aliases: Mapping[str, str] = spec.get("model_group_aliases", {})
    for name, group in aliases.items():
        field = f'router_config.model_group_aliases["{name}"]'
        if name in groups or name in (OFFLINE_GROUP, ANY_GROUP):
            yield Violation(field, f"{name} is the name of a group itself")
        if group not in groups:
            yield Violation(field, f"no deployment is of group {group}; an alias of an alias is none")
    for field, name in _named(spec):
        if name not in groups and name not in aliases:
            yield Violation(f"router_config.{field}", f"no deployment is of group {name}")


def _named(spec: Spec) -> Iterator[tuple[str, str]]:
    """Where groups are named, and which."""
    for kind in ("fallbacks", "context_window_fallbacks", "content_policy_fallbacks"):
        for index, fallback in enumerate(spec.get(kind, ())):
            if fallback["model_group"] != ANY_GROUP:
                yield f"{kind}[{index}].model_group", fallback["model_group"]
            for at, group in enumerate(fallback["fallback_groups"]):
                yield f"{kind}[{index}].fallback_groups[{at}]", group
    for index, group in enumerate(spec.get("default_fallbacks", ())):
        yield f"default_fallbacks[{index}]", group
    for group in spec.get("model_group_retry_policies", {}):
        yield f'model_group_retry_policies["{group}"]', group
    for index, group in enumerate(spec.get("cache", {}).get("model_groups", ())):
        yield f"cache.model_groups[{index}]", group


def _budgets(spec: Spec, deployment_ids: Collection[str]) -> Iterator[Violation]:
    for index, budget in enumerate(spec.get("budgets", ())):
        name = budget.get("deployment_id")
        if name is not None and name not in deployment_ids:
            yield Violation(f"router_config.budgets[{index}].deployment_id", f"there is no deployment {name}")


def _guardrails(spec: Spec) -> Iterator[Violation]:
    seen: set[str] = set()
    for index, guardrail in enumerate(spec.get("guardrails", ())):
        field = f"router_config.guardrails[{index}]"
        if guardrail["name"] in seen:
            yield Violation(f"{field}.name", f"{guardrail['name']} is used twice")
        seen.add(guardrail["name"])
        if not (guardrail.get("input") or guardrail.get("output")):
            yield Violation(field, "checks neither input nor output")
        for name, problem in _argument_problems(guardrail["kind"], guardrail.get("arguments", {})):
            yield Violation(f'{field}.arguments["{name}"]', problem)


def _argument_problems(kind: str, arguments: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    match kind:
        case "max_input_characters":
            if not re.fullmatch(r"[1-9][0-9]{0,9}", arguments.get("limit", "")):
                yield "limit", "is no whole number above 0"
        case "blocked_words":
            if not any(word.strip() for word in arguments.get("words", "").split(",")):
                yield "words", "has no words, separated by commas"
        case "blocked_pattern":
            pattern = arguments.get("pattern", "")
            problem = problem_of_pattern(pattern) if pattern else "is required"
            if problem:
                yield "pattern", problem


def check_deployment(deployment: Spec, field: str) -> list[Violation]:
    found: list[Violation] = []
    if deployment.get("model_group") == OFFLINE_GROUP:
        found.append(Violation(f"{field}.model_group", "offline is the suite's own model"))
    reference = deployment.get("api_key_reference")
    if reference and not _REFERENCE.fullmatch(reference):
        # The value may be a key: it is not repeated.
        found.append(Violation(f"{field}.api_key_reference", _A_KEY))
    for name, value in deployment.get("credential_references", {}).items():
        if not _REFERENCE.fullmatch(value):
            found.append(Violation(f'{field}.credential_references["{name}"]', _A_KEY))
    for name in deployment.get("provider_parameters", {}):
        if _SECRET_PARAMETER.search(name):
            found.append(
                Violation(f'{field}.provider_parameters["{name}"]', "may be a key; it belongs in credential_references")
            )
    if any(mark in deployment.get("api_base", "") for mark in "@?#"):
        found.append(Violation(f"{field}.api_base", "has credentials or a query; a key belongs in api_key_reference"))
    return found
