"""The rules of the kinds other than workflows."""

from __future__ import annotations

from typing import Any

import pytest
from jinja2 import UndefinedError
from jinja2.sandbox import SecurityError

from services.registry.model import Kind
from services.registry.model.agents import check_agent
from services.registry.model.events import check_event_rule
from services.registry.model.prompts import MOST_NAMED, check_prompt, template_environment
from services.registry.model.rules import CHECKS
from services.registry.model.schemas import check_schema
from services.registry.model.teams import check_team
from services.registry.model.templates import check_agent_template
from services.registry.model.tool_ids import matches
from services.registry.model.tools import check_mcp_server, check_tool_definition, check_tool_provider

MODEL = {"model": {"model": "offline"}}
OBJECT: dict[str, Any] = {"type": "object"}


def tools(*tool_ids: str) -> dict[str, Any]:
    return {"tools": [{"tool_id": tool_id} for tool_id in tool_ids]}


def test_every_kind_has_rules() -> None:
    assert set(CHECKS) == set(Kind)
    for kind, check in CHECKS.items():
        assert all(violation.field.startswith(f"{kind}.spec") for violation in check({}))


@pytest.mark.parametrize(
    "spec",
    [
        tools("mcp/crm/*", "mcp/crm/find", "grpc/risk/pkg.Service/Method", "function/score", "builtin/calculator"),
        tools("mcp/*", "mcp/cr*", "function/*", "host/get_leads_count", "host/*"),
        {**tools("mcp/crm/*"), "tool_choice": "mcp/crm/find"},
        {"mcp_server_ids": ["crm"], "tool_choice": "mcp/crm/find"},
        {"mcp_server_ids": ["crm"], "tool_choice": "required"},
        {"reasoning": {"min_steps": 10}},
        {"reasoning": {"min_steps": 20, "max_steps": 20}, "reasoning_model": {"model": "o3"}},
        {"history": {"num_runs": 3, "max_tool_calls": 0}},
        {"history": {"num_messages": 3}},
        {"guardrails": {"prompt_injection": "GUARDRAIL_ACTION_REFUSE", "personal_data": "GUARDRAIL_ACTION_MASK"}},
        {"guardrails": {"denied_output_patterns": [r"\d{3}\.\d{3}\.\d{3}-\d{2}"]}},
        {"input_schema": {"type": "array"}},
        {"input_schema": {}},
    ],
)
def test_good_agents(spec: dict[str, Any]) -> None:
    assert check_agent({**MODEL, **spec}) == []


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        (tools("mcp/crm/*", "mcp/crm/*"), "tools[1].tool_id"),
        (tools("mcp/crm"), "tools[0].tool_id"),
        (tools("mcp/*/find"), "tools[0].tool_id"),
        (tools("grpc/risk"), "tools[0].tool_id"),
        (tools("function/score/x"), "tools[0].tool_id"),
        (tools("host/crm/score"), "tools[0].tool_id"),
        (tools("mcp/crm/*find"), "tools[0].tool_id"),
        (tools("*"), "tools[0].tool_id"),
        ({**tools("mcp/crm/*"), "tool_choice": "mcp/crm/*"}, "tool_choice"),
        ({**tools("mcp/crm/fi*"), "tool_choice": "mcp/crm/get"}, "tool_choice"),
        ({"reasoning": {"min_steps": 11}}, "reasoning.max_steps"),
        ({"reasoning": {"min_steps": 3, "max_steps": 2}}, "reasoning.max_steps"),
        ({"reasoning_model": {"temperature": 1.0}}, "reasoning_model.model"),
        ({"history": {"num_runs": 3, "num_messages": 3}}, "history.num_messages"),
        ({"guardrails": {"prompt_injection": "GUARDRAIL_ACTION_MASK"}}, "guardrails.prompt_injection"),
        ({"guardrails": {"denied_output_patterns": ["a", "(?=a)"]}}, "guardrails.denied_output_patterns[1]"),
        ({"input_schema": {"type": 5}}, "input_schema"),
    ],
)
def test_bad_agents(spec: dict[str, Any], field: str) -> None:
    assert [v.field for v in check_agent({**MODEL, **spec})] == [f"agent.spec.{field}"]


@pytest.mark.parametrize(
    ("pattern", "tool_id", "expected"),
    [
        ("mcp/crm/*", "mcp/crm/find", True),
        ("mcp/crm/*", "mcp/erp/find", False),
        ("mcp/crm/fi*", "mcp/crm/find", True),
        ("mcp/*", "mcp/crm/find", True),
        ("grpc/risk/*", "grpc/risk/pkg.Service/Method", True),
        ("grpc/risk/pkg*", "grpc/risk/pkg.Service/Method", True),
        ("mcp/crm", "mcp/crm/find", False),
    ],
)
def test_tool_patterns(pattern: str, tool_id: str, expected: bool) -> None:
    assert matches(pattern, tool_id) is expected


TEAM: dict[str, Any] = {**MODEL, "members": [{"agent_id": "a"}, {"team_id": "a"}, {"agent_id": "b"}]}


@pytest.mark.parametrize(
    "spec",
    [
        {},
        {"mode": "TEAM_MODE_ROUTE", "respond_directly": True},
        {"respond_directly": True},
        {"mode": "TEAM_MODE_TASKS", "max_iterations": 5, **tools("builtin/calculator")},
        {"output_schema": OBJECT, "history": {"num_runs": 1}},
    ],
)
def test_good_teams(spec: dict[str, Any]) -> None:
    assert check_team({**TEAM, **spec}) == []


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"model": {}}, "model.model"),
        ({"members": []}, "members"),
        ({"members": [{"agent_id": "a"}, {"team_id": "a"}, {"agent_id": "a"}]}, "members[2].agent_id"),
        ({"mode": "TEAM_MODE_BROADCAST", "respond_directly": True}, "respond_directly"),
        ({"mode": "TEAM_MODE_TASKS", "respond_directly": True}, "respond_directly"),
        (tools("builtin/a", "builtin/a"), "tools[1].tool_id"),
        ({"output_schema": {"type": "string"}}, "output_schema"),
        ({"output_schema": OBJECT, "markdown": True}, "markdown"),
        ({"history": {"num_runs": 1, "num_messages": 1}}, "history.num_messages"),
    ],
)
def test_bad_teams(spec: dict[str, Any], field: str) -> None:
    assert [v.field for v in check_team({**TEAM, **spec})] == [f"team.spec.{field}"]


def nested(depth: int) -> dict[str, Any]:
    schema = OBJECT
    for _ in range(depth // 2):
        schema = {**OBJECT, "properties": {"a": schema}}
    return schema


@pytest.mark.parametrize(
    "schema",
    [
        OBJECT,
        {**OBJECT, "properties": {"child": {"$ref": "#"}}},
        {**OBJECT, "$defs": {"a/b": {"type": "string"}}, "properties": {"x": {"$ref": "#/$defs/a~1b"}}},
        {**OBJECT, "$defs": {"a": {"$anchor": "name"}}, "properties": {"x": {"$ref": "#name"}}},
        {**OBJECT, "allOf": [{"minProperties": 1}, {"$ref": "#/allOf/0"}]},
        {**OBJECT, "$id": "https://example.org/schema", "properties": {"x": {"pattern": "^a+$"}}},
        {**OBJECT, "properties": {"$ref": {"type": "string"}, "pattern": {}, "$id": True, "$schema": {}}},
        {"$schema": "http://json-schema.org/draft-07/schema#", **OBJECT, "definitions": {"a": {}}},
        {"$schema": "https://json-schema.org/draft/2020-12/schema", **OBJECT, "prefixItems": [{}]},
        {"$schema": "https://json-schema.org/draft/2019-09/schema#", **OBJECT, "items": [{"type": "string"}]},
        {"$schema": "https://json-schema.org/draft-07/schema", **OBJECT, "items": [{"type": "string"}]},
        {"$schema": "", **OBJECT},
        nested(30),
    ],
)
def test_good_schemas(schema: dict[str, Any]) -> None:
    assert check_schema(schema, "field", of_object=True) == []


BOMB = {f"d{n}": {"allOf": [{"$ref": f"#/$defs/d{n + 1}"}] * 2} for n in range(15)}


@pytest.mark.parametrize(
    ("schema", "problem"),
    [
        ({}, "must describe an object"),
        ({"type": ["object", "null"]}, "must describe an object"),
        ({"type": "nonsense"}, "is not a JSON Schema"),
        ({**OBJECT, "required": "a"}, "is not a JSON Schema"),
        ({**OBJECT, "$ref": 5}, "is not a JSON Schema"),
        ({**OBJECT, "$ref": "http://127.0.0.1/schema"}, "/$ref: refers to another document"),
        ({**OBJECT, "x": [{"$dynamicRef": "file:///etc/passwd"}]}, "/x/0/$dynamicRef: refers to another document"),
        ({**OBJECT, "properties": {"a": {"$id": "b"}}}, "/properties/a/$id: only the whole schema may have one"),
        ({**OBJECT, "$ref": "#/$defs/a"}, "refers to #/$defs/a, which it does not have"),
        ({**OBJECT, "$ref": "#/allOf/x", "allOf": [{}]}, "refers to #/allOf/x, which it does not have"),
        ({**OBJECT, "$ref": "#/allOf/1", "allOf": [{}]}, "refers to #/allOf/1, which it does not have"),
        ({**OBJECT, "$ref": "#/type/x"}, "refers to #/type/x, which it does not have"),
        ({**OBJECT, "$ref": "#name"}, "refers to #name, which it does not have"),
        ({**OBJECT, "$ref": "#"}, "refers to itself without end"),
        ({**OBJECT, "dependentSchemas": {"a": {"not": {"$ref": "#"}}}}, "refers to itself without end"),
        ({**OBJECT, "$ref": "#/$defs/d0", "$defs": {**BOMB, "d15": {}}}, "has more than 10000 schemas"),
        (nested(32), "is nested deeper than 32"),
        ({**OBJECT, "default": nested(32)}, "is nested deeper than 32"),
        ({**OBJECT, "properties": {"a": {"pattern": "(?=a)b"}}}, "/properties/a: '(?=a)b' is not a regular"),
        ({**OBJECT, "patternProperties": {r"(a)\1": {}}}, r": '(a)\\1' is not a regular expression of RE2"),
        ({**OBJECT, "x": {"pattern": "(?<=a)b"}}, "/x: '(?<=a)b' is not a regular expression of RE2"),
        ({**OBJECT, "pattern": r"\pN"}, "is not a JSON Schema"),
        # Each dialect has rules of its own.
        ({**OBJECT, "items": [{}]}, "is not a JSON Schema"),
        (
            {**OBJECT, "$schema": "http://json-schema.org/draft-07/schema", "$defs": 5, "definitions": 5},
            "is not a JSON",
        ),
        ({**OBJECT, "$schema": "https://json-schema.org/draft/2019-09/schema", "$recursiveAnchor": 1}, "is not a JSON"),
        ({**OBJECT, "$schema": "https://example.org/mine"}, "/$schema: 'https://example.org/mine' is none of the"),
        (
            {**OBJECT, "$schema": "http://json-schema.org/draft-04/schema#"},
            "/$schema: 'http://json-schema.org/draft-04",
        ),
        ({**OBJECT, "not": {"$schema": "x"}}, "/not/$schema: only the whole schema may have one"),
        ({**OBJECT, "pattern": "(" * 500 + ")" * 500}, "is not a JSON Schema that can be checked"),
    ],
)
def test_bad_schemas(schema: dict[str, Any], problem: str) -> None:
    (violation,) = check_schema(schema, "field", of_object=True)
    assert violation.field == "field"
    assert violation.description.startswith(problem)


@pytest.mark.parametrize(
    ("spec", "fields"),
    [
        ({"input_schema": OBJECT}, []),
        ({"input_schema": OBJECT, "output_schema": {"type": "number"}, "examples": [{"output": "1"}]}, []),
        ({}, ["input_schema"]),
        ({"input_schema": {}}, ["input_schema"]),
        ({"input_schema": {"type": "string"}}, ["input_schema"]),
        ({"input_schema": OBJECT, "output_schema": {"type": "nonsense"}}, ["output_schema"]),
    ],
)
def test_tool_definitions(spec: dict[str, Any], fields: list[str]) -> None:
    assert [v.field for v in check_tool_definition(spec)] == [f"tool_definition.spec.{field}" for field in fields]


URL = "https://example.org/mcp"
SECRET = "secret:crm:token"


@pytest.mark.parametrize(
    "spec",
    [
        {"stdio": {"command": "crm", "environment": {"API_KEY": SECRET, "REGION": "eu", "KEYS": "a"}}},
        {"http": {"url": URL, "headers": {"Authorization": SECRET, "X-Tenant": "a b", "X-Other": SECRET}}},
        {"sse": {"url": "http://localhost:8000/mcp?tenant=a"}},
        {"http": {"url": "http://[::1]:8000/mcp"}},
        {"http": {"url": URL}, "include_tools": ["find", "get_*", "*"], "exclude_tools": ["get_all"]},
    ],
)
def test_good_mcp_servers(spec: dict[str, Any]) -> None:
    assert check_mcp_server(spec) == []


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({}, "transport"),
        ({"http": {"url": URL}, "sse": {"url": URL}}, "transport"),
        ({"stdio": {"environment": {"API_KEY": "hunter2"}}}, 'stdio.environment["API_KEY"]'),
        ({"stdio": {"environment": {"db_password": "hunter2"}}}, 'stdio.environment["db_password"]'),
        ({"stdio": {"environment": {"TOKEN": ""}}}, 'stdio.environment["TOKEN"]'),
        ({"stdio": {"environment": {"TOKEN": f"{SECRET}\n"}}}, 'stdio.environment["TOKEN"]'),
        ({"stdio": {"environment": {"REGION": "secret:hunter2"}}}, 'stdio.environment["REGION"]'),
        ({"stdio": {"environment": {"A=B": "x"}}}, 'stdio.environment["A=B"]'),
        ({"http": {"headers": {"authorization": "Bearer hunter2"}}}, 'http.headers["authorization"]'),
        ({"http": {"headers": {"Cookie": "hunter2"}}}, 'http.headers["Cookie"]'),
        ({"sse": {"headers": {"X-Api-Key": "hunter2"}}}, 'sse.headers["X-Api-Key"]'),
        ({"http": {"headers": {"X-Auth-Token": "os.environ/hunter2"}}}, 'http.headers["X-Auth-Token"]'),
        ({"http": {"headers": {"X": "a\r\nhunter2: b"}}}, 'http.headers["X"]'),
        ({"http": {"headers": {"a b": "x"}}}, 'http.headers["a b"]'),
        ({"http": {"url": "https://me:hunter2@example.org"}}, "http.url"),
        ({"http": {"url": "https://hunter2@example.org"}}, "http.url"),
        ({"http": {"url": f"{URL}?api_key=hunter2"}}, "http.url"),
        ({"http": {"url": f"{URL}?a=b&access_TOKEN=hunter2"}}, "http.url"),
        ({"http": {"url": "https://[hunter2"}}, "http.url"),
        ({"http": {"url": "https://:80/"}}, "http.url"),
        ({"http": {"url": "https://example.org:99999/"}}, "http.url"),
        ({"http": {}, "include_tools": ["a", "*a"]}, "include_tools[1]"),
        ({"http": {}, "exclude_tools": [""]}, "exclude_tools[0]"),
    ],
)
def test_bad_mcp_servers_are_not_repeated(spec: dict[str, Any], field: str) -> None:
    (violation,) = check_mcp_server(spec)
    assert violation.field == f"mcp_server.spec.{field}"
    assert "hunter2" not in str(violation)


REFLECTION = {"address": "localhost:50051", "protocol": "TOOL_PROTOCOL_REFLECTION"}


@pytest.mark.parametrize(
    ("spec", "fields"),
    [
        ({"address": "localhost:50051", "tls": True, "token_reference": SECRET}, []),
        ({"address": "[::1]:65535", "protocol": "TOOL_PROTOCOL_MCP"}, []),
        ({**REFLECTION, "methods": ["pkg.v1.Service/Get", "Service/Get", "pkg.Service/*", "pkg.Service/Get*"]}, []),
        ({**REFLECTION, "methods": ["pkg.*", "*"]}, []),
        ({}, ["address"]),
        ({"address": "localhost:0"}, ["address"]),
        ({"address": "localhost:65536"}, ["address"]),
        ({"address": "localhost:1", "token_reference": "hunter2"}, ["token_reference"]),
        ({"address": "localhost:1", "token_reference": "os.environ/TOKEN"}, ["token_reference"]),
        (REFLECTION, ["methods"]),
        ({"address": "localhost:1", "methods": ["pkg.Service/Get"]}, ["methods"]),
        ({**REFLECTION, "methods": ["pkg.Service", "a/b/c", "*/Get", "pkg.Service/", "a b/c"]}, [*"01234"]),
    ],
)
def test_tool_providers(spec: dict[str, Any], fields: list[str]) -> None:
    found = check_tool_provider(spec)
    expected = [f"methods[{field}]" if field.isdigit() else field for field in fields]
    assert [v.field for v in found] == [f"tool_provider.spec.{field}" for field in expected]
    assert "hunter2" not in str(found)


@pytest.mark.parametrize(
    ("spec", "fields"),
    [
        ({"agent_id": "a"}, []),
        ({"team_id": "a", "pattern": "(?i)cancel", "metadata": {"tier": "gold"}}, []),
        ({"workflow_id": "a", "condition": "event.text.size() > 3 && event.tier == 'gold'"}, []),
        ({}, ["target"]),
        ({"agent_id": "a", "pattern": "(?!a)"}, ["pattern"]),
        ({"agent_id": "a", "condition": "event.urgent"}, ["condition"]),
        ({"agent_id": "a", "condition": "steps.a == 1"}, ["condition"]),
        ({"agent_id": "a", "condition": "event.a =="}, ["condition"]),
    ],
)
def test_event_rules(spec: dict[str, Any], fields: list[str]) -> None:
    assert [v.field for v in check_event_rule(spec)] == [f"event_rule.spec.{field}" for field in fields]


def prompt(template: str, *names: str) -> dict[str, Any]:
    return {"template": template, "variables": [{"name": name} for name in names]}


@pytest.mark.parametrize(
    "spec",
    [
        prompt("Be brief."),
        prompt("Hello {{ name }}!", "name", "unused"),
        prompt("{% for each in items %}{{ loop.index }} {{ each.name | upper }}{% endfor %}", "items"),
        prompt("{% set x = name %}{% if x is defined %}{{ x }}{% endif %}", "name"),
        prompt("{% raw %}{{ other }}{% endraw %}{# {{ other }} #}"),
        prompt("{{ 9**9**9**9 }}{{ 'a' * 10000000000 }}{{ 'a' | center(10000000000) }}"),
    ],
)
def test_good_prompts(spec: dict[str, Any]) -> None:
    assert check_prompt(spec) == []


@pytest.mark.parametrize(
    ("spec", "problem"),
    [
        ({}, "is required"),
        (prompt("{{ name }}"), "uses name, which is not declared"),
        (prompt("{{ range(3) }}"), "uses range, which is not declared"),
        (prompt("{{ name"), "is not a template: line 1"),
        (prompt("a\n{% if %}"), "is not a template: line 2"),
        (prompt("{{ 1 | unheard_of }}"), "is not a template: line 1: No filter named 'unheard_of'."),
        (prompt("{% include 'other' %}"), "is not a template: line 1: other templates and autoescape cannot be used"),
        (
            prompt("{% import 'other' as other %}"),
            "is not a template: line 1: other templates and autoescape cannot be used",
        ),
        (prompt("{% autoescape 9**9**9**9 %}{% endautoescape %}"), "is not a template: line 1: other templates and"),
        (prompt("{% extends 'other' %}"), "is not a template: line 1: other templates and autoescape cannot be used"),
        (prompt("{{ " + "(" * 40_000 + "1" + ")" * 40_000 + " }}"), "is not a template that can be rendered"),
        (prompt("{{ 1" + "+1" * 10_000 + " }}"), "is not a template that can be rendered"),
        (prompt("{% for x in [] %}" * 25 + "{% endfor %}" * 25), "is not a template that can be rendered"),
        (prompt("{{ " + "9" * 10_000 + " }}"), "is not a template that can be rendered"),
    ],
)
def test_bad_templates(spec: dict[str, Any], problem: str) -> None:
    (violation,) = check_prompt(spec)
    assert violation.field == "prompt.spec.template"
    assert violation.description.startswith(problem)


def test_few_of_many_undeclared_variables_are_named() -> None:
    assert len(check_prompt(prompt("".join(f"{{{{ a{n} }}}}" for n in range(100))))) == MOST_NAMED


def test_variables_are_declared_once() -> None:
    assert [v.field for v in check_prompt(prompt("{{ a }}", "a", "b", "a"))] == ["prompt.spec.variables[2].name"]


def test_templates_are_rendered_in_a_sandbox() -> None:
    environment = template_environment()
    assert environment.from_string("{{ a }} <b>\n").render(a="&") == "& <b>\n"
    with pytest.raises(SecurityError):
        environment.from_string("{{ a.__class__.__mro__ }}").render(a=1)
    with pytest.raises(UndefinedError):
        environment.from_string("{{ a }}").render()


@pytest.mark.parametrize(
    "spec",
    [
        {"agent": {}},
        {"agent": {"instructions": ["be brief"], "tool_choice": "mcp/crm/find"}, "optional_tools": ["mcp/crm/*"]},
        {
            "agent": MODEL,
            "category": "vendas pós-venda",
            "required_tools": ["builtin/a"],
            "optional_tools": ["builtin/b"],
        },
    ],
)
def test_good_agent_templates(spec: dict[str, Any]) -> None:
    assert check_agent_template(spec) == []


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({}, "agent"),
        ({"agent": {}, "category": "  "}, "category"),
        ({"agent": {}, "category": "a\nb"}, "category"),
        ({"agent": tools("builtin/a")}, "agent.tools"),
        ({"agent": {"timezone": "Mars/Olympus"}}, "agent.timezone"),
        ({"agent": {"tool_choice": "builtin/a"}, "required_tools": ["builtin/b"]}, "agent.tool_choice"),
        ({"agent": {"history": {"num_runs": 1, "num_messages": 1}}}, "agent.history.num_messages"),
        ({"agent": {}, "required_tools": ["calculator"]}, "required_tools[0]"),
        ({"agent": {}, "required_tools": ["builtin/a"], "optional_tools": ["builtin/a"]}, "optional_tools[0]"),
    ],
)
def test_bad_agent_templates(spec: dict[str, Any], field: str) -> None:
    assert [v.field for v in check_agent_template(spec)] == [f"agent_template.spec.{field}"]
