from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib import resources as packaged
from typing import Any

import protovalidate
import pytest
import yaml
from dynamicagents.registry.v1 import agent_template_pb2
from google.protobuf.json_format import MessageToDict, ParseDict

from libs import errors
from libs.identity import Caller
from services.registry import model
from services.registry.model import Draft, Kind, Resource, Spec
from services.registry.model.agents import check_agent
from services.registry.model.rules import CHECKS, check_draft
from services.registry.service.room import Room
from services.registry.service.templates import Templates, TenantTools, agent_spec, built_in

ANN = Caller("acme", "ann", frozenset())
FILES = {
    file.name.removesuffix(".yaml"): file
    for file in (packaged.files("services.registry") / "templates").iterdir()
    if file.name.endswith(".yaml")
}
IDS = sorted(FILES)
SECTIONS = ("Goal", "Protocol", "Limits", "Tone", "Hand-over")
ACCENTS = re.compile(r"[ãõçáéíóúâêô]")
PORTUGUESE = re.compile(r"\b(o|um|uma|que|quero|com|este|esta|meu|minha|na|em|da|isso|estou|preciso)\b")
ENGLISH = re.compile(r"\b(the|to|i|is|my|we|how|what|who|why|which|your|our|this|it|are|for|please)\b")


# What each is asked for: category, days of memory, required tools, and what its instructions must speak of.
ASKED: Mapping[str, tuple[str, int, set[str], Sequence[str]]] = {
    "sales_prospecting": (
        "sales",
        30,
        {"search_memory", "update_pipeline_stage", "create_follow_up_task"},
        ["Budget", "Authority", "Need", "Timeline", "UTM", "do not press"],
    ),
    "sales_negotiation": ("sales", 90, {"search_memory"}, ["objection", "discount", "approval", "payment"]),
    "sales_closing": (
        "sales",
        60,
        {"search_memory", "update_pipeline_stage"},
        ["contract", "signature", "confirmation"],
    ),
    "sdr_agent": (
        "sales",
        30,
        {"qualify_lead", "update_pipeline_stage", "assign_to_agent"},
        [
            "BANT",
            "BANT 40",
            "engagement 20",
            "80 and above",
            "60 to 79",
            "40 to 59",
            "Below 40",
            "never assign a lead below 60",
        ],
    ),
    "retention_churn": (
        "retention",
        90,
        {"search_memory", "create_retention_offer", "escalate_to_supervisor"},
        ["sentiment is below -0.5", "at most 3", "30 % discount", "root cause", "R$ 50,000", "8 or more"],
    ),
    "retention_upsell": ("retention", 180, {"search_memory"}, ["use", "upgrade", "open ticket"]),
    "retention_winback": ("retention", 365, {"search_memory"}, ["former customers", "reason", "consent"]),
    "support_technical": (
        "support",
        7,
        {"search_memory", "create_ticket", "escalate_to_engineering"},
        ["exact problem", "numbered steps", "screenshot", "whether it works", "similar problems"],
    ),
    "support_billing": ("support", 180, {"search_memory"}, ["invoice", "payment", "wrong charge"]),
    "support_onboarding": ("support", 60, {"search_memory"}, ["welcome", "set-up", "learning", "activation"]),
    "operations_followup": ("operations", 30, {"search_memory", "create_follow_up_task"}, ["agreed", "at most 3"]),
    "operations_schedule": ("operations", 30, {"search_memory"}, ["check_availability", "time zone", "move or cancel"]),
    "operations_qa": ("operations", 30, {"search_memory"}, ["accuracy", "empathy", "0.8", "at most 3 iterations"]),
    "marketing_campaign": ("marketing", 365, {"search_memory"}, ["audience", "consent", "approval", "variants"]),
    "marketing_content": ("marketing", 365, {"search_memory"}, ["brand", "reader", "headlines"]),
    "marketing_event": ("marketing", 180, {"search_memory"}, ["registration", "before the event", "after the event"]),
    "balanced": ("general", 30, {"search_memory"}, ["search_memory", "professional", "escalate_to_human"]),
    "bi_manager": (
        "analysis",
        365,
        {"get_leads_count", "get_agent_conversion_stats", "get_top_performing_agent", "compare_agents"},
        [
            "quantitative",
            "qualitative",
            "mixed",
            "deep_agent_analysis",
            "at least 90 days",
            "format_guide",
            "no tool returned",
        ],
    ),
    "agent_analyzer": (
        "analysis",
        90,
        {"analyze_agent_messages", "compare_agents"},
        ["Grammar", "Tone", "Brand alignment", "Response time", "satisfaction", "confidential", "recommendations"],
    ),
    "coordinator": (
        "coordination",
        30,
        {"delegate_to_specialist"},
        ["always delegate", "sales_prospecting", "retention_churn", "support_technical", "support_billing", "1 day"],
    ),
}
SETTINGS = {
    "sales_prospecting": (0.8, 1024),
    "sdr_agent": (0.7, 2048),
    "retention_churn": (0.7, 2048),
    "support_technical": (0.5, 2048),
    "balanced": (0.7, 1024),
    "bi_manager": (0.3, 4096),
    "agent_analyzer": (0.2, 4096),
}
STRATEGIES = {"sdr_agent": "sales_prospecting", "coordinator": "balanced"}


def data_of(template_id: str) -> dict[str, Any]:
    data: dict[str, Any] = yaml.safe_load(FILES[template_id].read_text("utf-8"))
    return data


def test_there_are_the_twenty() -> None:
    assert set(IDS) == set(ASKED) == set(built_in())
    assert len(IDS) == 20


@pytest.mark.parametrize("template_id", IDS)
def test_a_file_is_the_json_form_of_a_valid_template(template_id: str) -> None:
    data = data_of(template_id)
    message = ParseDict({"template_id": template_id, **data}, agent_template_pb2.AgentTemplate())
    protovalidate.validate(message)
    back = MessageToDict(message.spec, preserving_proto_field_name=True)
    assert repr(_sorted(back)) == repr(_sorted(data["spec"]))
    draft = built_in()[template_id].draft()
    assert [*check_draft(Kind.AGENT_TEMPLATE, draft), *CHECKS[Kind.AGENT_TEMPLATE](draft.spec or {})] == []


def _sorted(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _sorted(value[key]) for key in sorted(value)}
    return [_sorted(inner) for inner in value] if isinstance(value, list) else value


@pytest.mark.parametrize("template_id", IDS)
def test_a_template_has_what_is_asked_of_it(template_id: str) -> None:
    data = data_of(template_id)
    spec, agent = data["spec"], data["spec"]["agent"]
    category, days, tools, facts = ASKED[template_id]
    text = " ".join(agent["instructions"])
    assert len(data["display_name"]) > 3
    assert len(data["description"]) > 20
    assert spec["category"] == category
    assert spec["knowledge_scope"]["lookback_days"] == days
    assert spec["retrieval_strategy"] == STRATEGIES.get(template_id, template_id)
    assert {f"host/{tool}" for tool in tools} <= set(spec["required_tools"])
    assert not set(spec["required_tools"]) & set(spec["optional_tools"])
    assert agent["model"]["model"] == "default"
    if template_id in SETTINGS:
        assert (agent["model"]["temperature"], agent["model"]["max_output_tokens"]) == SETTINGS[template_id]
    for section in SECTIONS:
        assert any(rule.startswith(section) for rule in agent["instructions"]), section
    for fact in facts:
        assert fact.lower() in text.lower(), fact
    assert "language" in text.lower()
    assert all(len(rule) > 40 for rule in agent["instructions"])


@pytest.mark.parametrize("template_id", IDS)
def test_users_are_understood_in_both_languages(template_id: str) -> None:
    examples = data_of(template_id)["spec"]["intent_examples"]
    assert len(examples) >= 8
    assert len({example.lower() for example in examples}) == len(examples)
    portuguese = [text for text in examples if ACCENTS.search(text) or PORTUGUESE.search(text.lower())]
    english = [text for text in examples if ENGLISH.search(text.lower())]
    assert not set(portuguese) & set(english)
    assert len(portuguese) >= 3
    assert len(english) >= 3


def test_intents_belong_to_one_template() -> None:
    examples = [example for template_id in IDS for example in data_of(template_id)["spec"]["intent_examples"]]
    assert len(set(examples)) == len(examples)


@pytest.mark.parametrize("template_id", ["operations_qa", "bi_manager", "agent_analyzer"])
def test_structured_answers(template_id: str) -> None:
    schema = data_of(template_id)["spec"]["agent"]["output_schema"]
    wanted = {
        "operations_qa": {"quality_score", "issues", "should_regenerate"},
        "bi_manager": {"answer", "format_guide"},
        "agent_analyzer": {"analysis", "comparison", "recommendations"},
    }
    assert wanted[template_id] <= set(schema["properties"])


class Stored:
    """Resources of one kind and tenant, in a dictionary."""

    def __init__(self, kind: Kind) -> None:
        self.kind = kind
        self.resources: dict[str, Resource] = {}
        self.requests: list[tuple[str, bool]] = []

    async def create(
        self, caller: Caller, draft: Draft, request_id: str, *, validate_only: bool = False, digest: str = ""
    ) -> Resource:
        self.requests.append((request_id, validate_only))
        made = model.first(self.kind, draft, caller.subject)
        if not validate_only:
            self.resources[draft.resource_id] = made
        return made

    async def get(self, caller: Caller, resource_id: str, revision: int = 0) -> Resource:
        found = self.resources.get(resource_id)
        if found is None or revision not in (0, found.revision):
            raise errors.NotFound(self.kind, resource_id)
        return found

    async def list(
        self, caller: Caller, page_size: int, page_token: str, filter_: str, order_by: str, room: Room
    ) -> tuple[Sequence[Resource], str]:
        at = int(page_token or "0")
        found = sorted(self.resources.values(), key=lambda resource: resource.resource_id)[at : at + 2]
        return found, str(at + 2) if at + 2 < len(self.resources) else ""

    async def update(
        self, caller: Caller, patch: Draft, paths: Sequence[str], etag: str, *, validate_only: bool = False
    ) -> Resource:
        current = await self.get(caller, patch.resource_id)
        made = current.next(model.patched(current.draft(), patch, [*paths]), caller.subject)
        self.resources[patch.resource_id] = made
        return made

    async def delete(self, caller: Caller, resource_id: str, etag: str, *, force: bool = False) -> None:
        await self.get(caller, resource_id)
        del self.resources[resource_id]

    async def many(self, tenant: str, kind: Kind, ids: Sequence[str]) -> Mapping[str, Resource]:
        found = {each.resource_id: each for each in self.resources.values() if each.kind is kind}
        return {name: found[name] for name in ids if name in found}


@pytest.fixture
def own() -> Stored:
    return Stored(Kind.AGENT_TEMPLATE)


@pytest.fixture
def agents() -> Stored:
    return Stored(Kind.AGENT)


@pytest.fixture
def tools() -> Stored:
    return Stored(Kind.TOOL_DEFINITION)


@pytest.fixture
def templates(own: Stored, agents: Stored, tools: Stored) -> Templates:
    return Templates(own, agents, TenantTools(tools))


def draft(template_id: str, name: str = "Ours", spec: Spec | None = None, **labels: str) -> Draft:
    return Draft(template_id, name, "", labels, spec or {"category": "own", "agent": {"instructions": ["Be kind."]}})


async def listed(templates: Templates, size: int = 1000, room: Room | None = None, **query: str) -> Sequence[str]:
    found: list[str] = []
    token = ""
    while True:
        where, order = query.get("where", ""), query.get("order", "")
        page, token = await templates.list(ANN, size, token, where, order, room or Room(1, lambda _: 0))
        assert len(page) <= size
        found += [each.resource_id for each in page]
        if not token:
            return found


async def test_a_tenants_template_goes_before_one_of_the_suite(templates: Templates) -> None:
    assert (await templates.get(ANN, "balanced")).revision == 0
    await templates.create(ANN, draft("balanced"), "")
    assert (await templates.get(ANN, "balanced")).display_name == "Ours"
    assert (await templates.get(ANN, "balanced", 1)).revision == 1
    assert await listed(templates) == IDS
    await templates.update(ANN, draft("balanced", "Renamed"), ["display_name"], "")
    assert (await templates.get(ANN, "balanced")).display_name == "Renamed"
    await templates.delete(ANN, "balanced", "")
    assert (await templates.get(ANN, "balanced")).display_name == "Balanced"


async def test_a_template_of_the_suite_cannot_be_changed(templates: Templates) -> None:
    with pytest.raises(errors.FailedPrecondition) as refused:
        await templates.update(ANN, draft("balanced"), ["display_name"], "")
    assert refused.value.reason_code == "NOT_SUPPORTED"
    with pytest.raises(errors.FailedPrecondition, match="comes with the suite"):
        await templates.delete(ANN, "balanced", "")


async def test_what_there_is_not(templates: Templates) -> None:
    for template_id, revision in (("nothing", 0), ("balanced", 3)):
        with pytest.raises(errors.NotFound):
            await templates.get(ANN, template_id, revision)
    with pytest.raises(errors.NotFound):
        await templates.update(ANN, draft("nothing"), ["display_name"], "")
    with pytest.raises(errors.NotFound):
        await templates.delete(ANN, "nothing", "")


@pytest.mark.parametrize("size", [1, 7, 24, 25, 1000])
async def test_pages_of_both(templates: Templates, size: int) -> None:
    added = ["a1", "balanced", "marketing_aaa", "zz", "sales-own"]
    for template_id in added:
        await templates.create(ANN, draft(template_id), "")
    everything = sorted({*IDS, *added})
    assert await listed(templates, size) == everything
    assert await listed(templates, size, order="display_name desc") == [
        each.resource_id
        for each in sorted(
            [await templates.get(ANN, template_id) for template_id in everything],
            key=lambda each: (each.display_name, each.resource_id),
            reverse=True,
        )
    ]


async def test_pages_go_on_when_the_last_entry_is_gone(templates: Templates) -> None:
    await templates.create(ANN, draft("a1"), "")
    page, token = await templates.list(ANN, 1, "", "", "", Room(1, lambda _: 0))
    await templates.delete(ANN, page[0].resource_id, "")
    page, _ = await templates.list(ANN, 1, token, "", "", Room(1, lambda _: 0))
    assert page[0].resource_id == "agent_analyzer"


@pytest.mark.parametrize("token", ["rubbish", "W10=", "WyJhIiwgImIiXQ=="])
async def test_bad_page_tokens(templates: Templates, token: str) -> None:
    with pytest.raises(errors.InvalidArgument) as refused:
        await templates.list(ANN, 1, token, "", "", Room(1, lambda _: 0))
    assert refused.value.violations[0].field == "page_token"


async def test_a_page_token_belongs_to_its_query(templates: Templates) -> None:
    _, token = await templates.list(ANN, 1, "", "", "", Room(1, lambda _: 0))
    with pytest.raises(errors.InvalidArgument):
        await templates.list(ANN, 1, token, 'spec.category = "sales"', "", Room(1, lambda _: 0))
    with pytest.raises(errors.InvalidArgument):
        await templates.list(replace(ANN, tenant="other"), 1, token, "", "", Room(1, lambda _: 0))


@pytest.mark.parametrize(
    ("where", "found"),
    [
        ('spec.category = "sales"', ["sales_closing", "sales_negotiation", "sales_prospecting", "sdr_agent"]),
        (
            'display_name = "Sales*" AND spec.category = "sales"',
            ["sales_closing", "sales_negotiation", "sales_prospecting", "sdr_agent"],
        ),
        ('display_name != "*"', []),
        ("spec.knowledge_scope.lookback_days <= 7", ["support_technical"]),
        ("spec.agent.model.temperature > 0.85", ["marketing_content"]),
        ("spec.agent.markdown = true AND spec.category != marketing", []),
        ("spec.agent.markdown = 1", []),
        ('spec.agent.instructions = "x"', []),
        ("spec.knowledge_scope.include_campaigns = true AND spec.category = analysis", ["bi_manager"]),
        ('labels.team = "crm"', ["zz"]),
        ('labels.team != "crm"', ["yy"]),
        ('update_time > "2020-01-01T00:00:00Z"', ["yy", "zz"]),
        ('create_time < "2020-01-01T00:00:00Z"', []),
        ('spec.category = "own" AND spec.retrieval_strategy > 1', []),
    ],
)
async def test_filters_hold_for_both(templates: Templates, where: str, found: Sequence[str]) -> None:
    await templates.create(ANN, draft("zz", team="crm"), "")
    await templates.create(ANN, draft("yy", team="ops"), "")
    assert await listed(templates, 2, where=where) == sorted(found)


async def test_a_hidden_template_does_not_come_back_by_a_filter(templates: Templates) -> None:
    await templates.create(ANN, draft("balanced"), "")
    assert await listed(templates, where='spec.category = "general"') == []


async def test_an_agent_from_a_template(templates: Templates, agents: Stored, tools: Stored) -> None:
    made = await templates.create_agent(ANN, "retention_churn", Draft("keeper", labels={"team": "crm"}), "r1")
    assert agents.requests == [("r1", False)]
    assert made.labels == {"team": "crm", "template": "retention_churn", "template-revision": "0"}
    assert made.display_name == "Churn prevention"
    assert {"tool_id": "host/create_retention_offer"} in made.spec["tools"]
    assert made.spec["memory"] == {"add_to_context": True, "retrieval_strategy": "retention_churn"}
    assert made.spec["model"] == {"model": "default", "temperature": 0.7, "max_output_tokens": 2048}
    assert "category" not in made.spec


@pytest.mark.parametrize("template_id", IDS)
async def test_agents_from_the_suites_templates_are_valid(templates: Templates, template_id: str) -> None:
    made = await templates.create_agent(ANN, template_id, Draft("one"), "")
    assert check_agent(made.spec) == []


async def test_overrides_replace_whole_fields_but_the_models(templates: Templates) -> None:
    spec = {
        "model": {"model": "offline", "seed": "7"},
        "instructions": ["Mine."],
        "tools": [{"tool_id": "builtin/calculator"}],
        "memory": {"agentic": True},
    }
    overrides = Draft("mine", "Mine", "What", {"template": "forged"}, spec)
    made = await templates.create_agent(ANN, "retention_churn", overrides, "", validate_only=True)
    model_settings = {"model": "offline", "temperature": 0.7, "max_output_tokens": 2048, "seed": "7"}
    assert made.spec == {
        **spec,
        "model": model_settings,
        "tool_call_limit": 15,
        "history": {"num_runs": 20},
    }
    assert (made.display_name, made.description) == ("Mine", "What")
    assert made.labels["template"] == "retention_churn"


async def test_optional_tools_are_those_that_exist(templates: Templates, tools: Stored) -> None:
    spec = {
        "agent": {"model": {"model": "offline"}},
        "required_tools": ["function/score", "host/search_memory"],
        "optional_tools": [
            "function/there",
            "function/gone",
            "mcp/crm/find",
            "builtin/calculator",
            "host/search_memory",
        ],
    }
    await templates.create(ANN, draft("own", spec=spec), "")
    await tools.create(ANN, Draft("there"), "")
    made = await templates.create_agent(ANN, "own", Draft("one"), "")
    ids = ["function/score", "host/search_memory", "function/there", "builtin/calculator"]
    assert made.spec["tools"] == [{"tool_id": tool_id} for tool_id in ids]
    assert made.labels["template-revision"] == "1"


def test_a_template_without_a_model_takes_the_overrides() -> None:
    assert agent_spec({"agent": {"markdown": True}}, {"model": {"model": "a"}}) == {
        "markdown": True,
        "model": {"model": "a"},
    }
    assert agent_spec({}, {}) == {}
