from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from services.registry import model
from services.registry.model import Draft, Kind
from services.registry.model.agents import check_agent
from services.registry.model.router_config import MOST_DEPLOYMENTS, check_deployment, check_router_config
from services.registry.model.rules import MOST_BYTES, check_draft

MODEL = {"model": {"model": "offline"}}
TOOLS = {"tools": [{"tool_id": "builtin/calculator"}, {"tool_id": "builtin/current_time"}]}
DEPLOYMENT = {"deployment_id": "a", "model_group": "gpt-4o", "model": "openai/gpt-4o"}
OBJECT = {"type": "object", "properties": {"answer": {"type": "string"}}}


@pytest.mark.parametrize(
    "spec",
    [
        {},
        TOOLS,
        {**TOOLS, "tool_choice": "required"},
        {**TOOLS, "tool_choice": "builtin/calculator"},
        {"tool_choice": "none"},
        {"timezone": "America/Sao_Paulo"},
        {"output_schema": OBJECT},
        {"output_schema": {**OBJECT, "$schema": "http://json-schema.org/draft-07/schema#"}},
        {"markdown": True},
    ],
)
def test_good_agents(spec: dict[str, Any]) -> None:
    assert check_agent({**MODEL, **spec}) == []


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"model": {}}, "agent.spec.model.model"),
        ({"model": {"temperature": 1.0}}, "agent.spec.model.model"),
        ({"tools": [*TOOLS["tools"], {"tool_id": "builtin/calculator"}]}, "agent.spec.tools[2].tool_id"),
        ({**TOOLS, "tool_choice": "builtin/other"}, "agent.spec.tool_choice"),
        ({"tool_choice": "required"}, "agent.spec.tool_choice"),
        ({"timezone": "Mars/Olympus"}, "agent.spec.timezone"),
        ({"timezone": "../../etc/passwd"}, "agent.spec.timezone"),
        ({"timezone": "America"}, "agent.spec.timezone"),
        ({"timezone": "/etc/localtime"}, "agent.spec.timezone"),
        ({"output_schema": {}}, "agent.spec.output_schema"),
        ({"output_schema": {"type": "array"}}, "agent.spec.output_schema"),
        ({"output_schema": {"type": "nonsense"}}, "agent.spec.output_schema"),
        ({"output_schema": {"type": "object", "properties": 5}}, "agent.spec.output_schema"),
        ({"output_schema": {"type": "object", "$schema": ["x"]}}, "agent.spec.output_schema"),
        ({"output_schema": {"type": "object", "$schema": 5.0}}, "agent.spec.output_schema"),
        ({"output_schema": {**OBJECT, "$schema": "https://example.org/unheard-of"}}, "agent.spec.output_schema"),
        ({"output_schema": {"type": "object", "properties": {"a": {"pattern": "("}}}}, "agent.spec.output_schema"),
        ({"output_schema": OBJECT, "markdown": True}, "agent.spec.markdown"),
    ],
)
def test_bad_agents(spec: dict[str, Any], field: str) -> None:
    assert [v.field for v in check_agent({**MODEL, **spec})] == [field]


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"api_key_reference": "os.environ/OPENAI_API_KEY"},
        {"api_key_reference": "secret:openai:api_key"},
        {"api_base": "http://127.0.0.1:8000/v1"},
    ],
)
def test_good_deployments(fields: dict[str, Any]) -> None:
    assert check_deployment({**DEPLOYMENT, **fields}, "deployment") == []


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"api_key_reference": "sk-hunter2"}, "api_key_reference"),
        ({"api_key_reference": "os.environ/hunter2 x"}, "api_key_reference"),
        ({"api_key_reference": "secret:hunter2"}, "api_key_reference"),
        ({"api_key_reference": "secret:openai:api_key\n"}, "api_key_reference"),
        ({"api_base": "https://me:hunter2@example.org/v1"}, "api_base"),
        ({"api_base": "https://example.org/v1?key=hunter2"}, "api_base"),
        ({"model_group": "offline"}, "model_group"),
        ({"credential_references": {"aws_access_key_id": "hunter2"}}, 'credential_references["aws_access_key_id"]'),
        ({"provider_parameters": {"aws_session_token": "hunter2"}}, 'provider_parameters["aws_session_token"]'),
    ],
)
def test_bad_deployments_are_not_repeated(fields: dict[str, Any], field: str) -> None:
    found = check_deployment({**DEPLOYMENT, **fields}, "deployment")
    assert [v.field for v in found] == [f"deployment.{field}"]
    assert "hunter2" not in str(found)


def test_further_credentials_are_references() -> None:
    credentials = {"aws_access_key_id": "secret:aws:id", "aws_secret_access_key": "os.environ/AWS_SECRET"}
    parameters = {"aws_region_name": "eu-west-1", "max_tokens": "5"}
    fields = {"credential_references": credentials, "provider_parameters": parameters}
    assert check_deployment({**DEPLOYMENT, **fields}, "deployment") == []


def test_router_config_names_the_deployment() -> None:
    spec = {"deployments": [DEPLOYMENT, {**DEPLOYMENT, "api_key_reference": "sk-hunter2"}]}
    assert [v.field for v in check_router_config(spec)] == [
        "router_config.deployments[1].deployment_id",
        "router_config.deployments[1].api_key_reference",
    ]


def test_too_many_deployments() -> None:
    many = [{**DEPLOYMENT, "deployment_id": str(n)} for n in range(MOST_DEPLOYMENTS + 1)]
    assert check_router_config({"deployments": many[:-1]}) == []
    assert [v.field for v in check_router_config({"deployments": many})] == ["router_config.deployments"]


def test_text_that_cannot_be_stored() -> None:
    draft = Draft(
        "a", "na\0me", labels={"x": "\0"}, spec={"instructions": ["ok", "b\0"], "s": {"\0": 1, "ok": "\\u0000"}}
    )
    assert [v.field for v in check_draft(Kind.AGENT, draft)] == [
        "agent.display_name",
        "agent.labels.x",
        "agent.spec.instructions[1]",
        "agent.spec.s",
    ]


def test_resource_that_is_too_large() -> None:
    spec = {"additional_context": "x" * MOST_BYTES}
    assert [v.field for v in check_draft(Kind.AGENT, Draft("a", spec=spec))] == ["agent"]
    assert check_draft(Kind.AGENT, Draft("a", spec=MODEL)) == []


CURRENT = Draft("a", "Name", "What", {"x": "1"}, {**MODEL, "instructions": ["be brief"], "markdown": True})


@pytest.mark.parametrize(
    ("patch", "paths", "changed"),
    [
        (Draft("a", "New"), ["display_name"], {"display_name": "New"}),
        (Draft("a", "New"), ["description"], {"description": ""}),
        (Draft("a"), ["display_name", "labels"], {"display_name": "", "labels": {}}),
        (Draft("a", labels={"y": "2"}), ["labels"], {"labels": {"y": "2"}}),
        (Draft("a", spec=MODEL), ["spec"], {"spec": MODEL}),
        (Draft("a", spec=MODEL), ["spec.markdown"], {"spec": {**MODEL, "instructions": ["be brief"]}}),
        (
            Draft("a", spec={"model": {"model": "gpt", "temperature": 0.0}}),
            ["spec.model.temperature"],
            {"spec": {**(CURRENT.spec or {}), "model": {"model": "offline", "temperature": 0.0}}},
        ),
        (Draft("a"), ["spec.model.model"], {"spec": {**(CURRENT.spec or {}), "model": {}}}),
        (Draft("a"), ["spec.model.temperature"], {}),
        (Draft("a"), ["spec"], {"spec": {}}),
    ],
)
def test_patched(patch: Draft, paths: list[str], changed: dict[str, Any]) -> None:
    before = CURRENT.content()
    made = model.patched(CURRENT, patch, paths)
    assert made.content() == {**before, **changed}
    assert made.resource_id == "a"
    assert CURRENT.content() == before


def test_revisions_have_their_own_etags() -> None:
    one = model.first(Kind.AGENT, CURRENT, "ann")
    two = one.next(CURRENT, "bob")
    assert (one.revision, two.revision, two.author) == (1, 2, "bob")
    assert one.etag != two.etag
    assert two.create_time == one.create_time
    assert model.fingerprint(replace(one, author="eve")) == one.etag


def test_recreated_is_new_but_goes_on_counting() -> None:
    gone = model.first(Kind.AGENT, CURRENT, "ann").next(CURRENT, "ann", deleted=True)
    made = model.recreated(gone, Draft("a", spec=MODEL), "bob")
    assert (made.revision, made.deleted, made.labels) == (3, False, {})
    assert made.create_time == made.update_time > gone.create_time
