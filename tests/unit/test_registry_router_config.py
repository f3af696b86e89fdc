from __future__ import annotations

from typing import Any

import pytest

from services.registry.model.router_config import check_router_config

DEPLOYMENTS = [
    {"deployment_id": "a", "model_group": "gpt", "model": "openai/gpt-4o"},
    {"deployment_id": "b", "model_group": "claude", "model": "anthropic/claude-sonnet-4-5"},
]


def fields(**spec: Any) -> list[str]:
    found = check_router_config({"deployments": DEPLOYMENTS, **spec})
    return [violation.field.removeprefix("router_config.") for violation in found]


def test_what_is_complete_passes() -> None:
    assert not fields(
        model_group_aliases={"best": "claude"},
        fallbacks=[
            {"model_group": "gpt", "fallback_groups": ["best"]},
            {"model_group": "*", "fallback_groups": ["gpt"]},
        ],
        default_fallbacks=["claude"],
        model_group_retry_policies={"best": {"timeout": 1}},
        cache={"model_groups": ["gpt"]},
        budgets=[{"deployment_id": "a", "max_cost_usd": 1, "period": "60s"}, {"tenant": True, "period": "60s"}],
        guardrails=[{"name": "w", "kind": "blocked_words", "input": True, "arguments": {"words": "a, b"}}],
    )


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"fallbacks": [{"model_group": "no", "fallback_groups": ["gpt"]}]}, "fallbacks[0].model_group"),
        ({"fallbacks": [{"model_group": "gpt", "fallback_groups": ["no"]}]}, "fallbacks[0].fallback_groups[0]"),
        ({"fallbacks": [{"model_group": "gpt", "fallback_groups": ["*"]}]}, "fallbacks[0].fallback_groups[0]"),
        (
            {"context_window_fallbacks": [{"model_group": "gpt", "fallback_groups": ["claude", "no"]}]},
            "context_window_fallbacks[0].fallback_groups[1]",
        ),
        (
            {"content_policy_fallbacks": [{"model_group": "gpt", "fallback_groups": ["offline"]}]},
            "content_policy_fallbacks[0].fallback_groups[0]",
        ),
        ({"default_fallbacks": ["no"]}, "default_fallbacks[0]"),
        ({"model_group_retry_policies": {"no": {}}}, 'model_group_retry_policies["no"]'),
        ({"cache": {"model_groups": ["no"]}}, "cache.model_groups[0]"),
        ({"model_group_aliases": {"best": "no"}}, 'model_group_aliases["best"]'),
        ({"model_group_aliases": {"gpt": "claude"}}, 'model_group_aliases["gpt"]'),
        ({"model_group_aliases": {"offline": "claude"}}, 'model_group_aliases["offline"]'),
        ({"budgets": [{"deployment_id": "no", "period": "60s"}]}, "budgets[0].deployment_id"),
        ({"guardrails": [{"name": "g", "kind": "x"}]}, "guardrails[0]"),
    ],
)
def test_what_names_something_that_is_not_there(spec: dict[str, Any], field: str) -> None:
    assert fields(**spec) == [field]


def test_aliases_do_not_go_round_in_circles() -> None:
    assert len(fields(model_group_aliases={"one": "two", "two": "one"})) == 2


@pytest.mark.parametrize(
    ("kind", "arguments", "argument"),
    [
        ("max_input_characters", {}, "limit"),
        ("max_input_characters", {"limit": "-1"}, "limit"),
        ("blocked_words", {"words": " , "}, "words"),
        ("blocked_pattern", {}, "pattern"),
        ("blocked_pattern", {"pattern": "("}, "pattern"),
        ("blocked_pattern", {"pattern": r"(a)\1"}, "pattern"),
    ],
)
def test_arguments_of_guardrails(kind: str, arguments: dict[str, str], argument: str) -> None:
    guardrail = {"name": "g", "kind": kind, "output": True, "arguments": arguments}
    assert fields(guardrails=[guardrail]) == [f'guardrails[0].arguments["{argument}"]']


def test_guardrails_have_names_of_their_own() -> None:
    guardrail = {"name": "g", "kind": "hook", "input": True}
    assert fields(guardrails=[guardrail, guardrail]) == ["guardrails[1].name"]


@pytest.mark.parametrize(
    "name", ["api_key", "aws_secret_access_key", "azure_ad_token", "password", "vertex_credentials"]
)
def test_parameters_hold_no_keys(name: str) -> None:
    deployments = [{**DEPLOYMENTS[0], "provider_parameters": {name: "x", "max_tokens": "1"}}]
    assert f'deployments[0].provider_parameters["{name}"]' in fields(deployments=deployments)


def test_credentials_are_references() -> None:
    references = {"aws_access_key_id": "secret:aws:id", "aws_secret_access_key": "AKIA-literal"}
    found = check_router_config({"deployments": [{**DEPLOYMENTS[0], "credential_references": references}]})
    assert [v.field for v in found] == ['router_config.deployments[0].credential_references["aws_secret_access_key"]']
    assert "AKIA" not in str(found)
