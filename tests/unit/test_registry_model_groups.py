from __future__ import annotations

from typing import Any

import pytest

from services.registry.model import Kind
from services.registry.model.model_groups import known_groups, named_groups, near


def deployments(*groups: str) -> dict[str, Any]:
    return {"deployments": [{"model_group": group} for group in groups]}


def test_where_groups_are_named() -> None:
    spec = {"model": {"model": "a"}, "reasoning_model": {"model": "b"}}
    assert named_groups(Kind.AGENT, spec) == {"agent.spec.model.model": "a", "agent.spec.reasoning_model.model": "b"}
    assert named_groups(Kind.TEAM, spec) == {"team.spec.model.model": "a"}
    assert named_groups(Kind.AGENT_TEMPLATE, {"agent": {"reasoning_model": {"model": "b"}}}) == {
        "agent_template.spec.agent.reasoning_model.model": "b"
    }
    assert named_groups(Kind.AGENT_TEMPLATE, {}) == named_groups(Kind.AGENT, {"model": {}}) == {}
    assert named_groups(Kind.WORKFLOW, {"steps": []}) == {}


def test_known_groups() -> None:
    config = {**deployments("gpt", "gpt", "claude"), "model_group_aliases": {"default": "gpt"}}
    assert known_groups(config) == ["claude", "default", "gpt", "offline"]


@pytest.mark.parametrize("config", [{}, {"deployments": []}, {"model_group_aliases": {"default": "offline"}}])
def test_without_a_deployment_nothing_is_known(config: dict[str, Any]) -> None:
    assert known_groups(config) == []


def test_near_names_come_first() -> None:
    known = ["claude", "gpt-4o", "gpt-4o-mini", "llama", "offline", "qwen"]
    assert near("gpt4o", known)[0] == "gpt-4o"
    assert near("zzzz", known) == known[:5]
