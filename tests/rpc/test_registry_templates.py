"""TemplateService and PromptService on a real server."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
import pytest
from dynamicagents.registry.v1 import (
    agent_pb2,
    agent_template_pb2,
    prompt_pb2,
    prompt_service_pb2,
    prompt_service_pb2_grpc,
    template_service_pb2,
    template_service_pb2_grpc,
)
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask

from services.registry.app import app
from services.registry.config import RegistrySettings
from tests import harness


@pytest.fixture
async def channel(make_settings: Callable[..., Any]) -> AsyncIterator[grpc.aio.Channel]:
    async with harness.running(app, make_settings(RegistrySettings)) as (_, opened):
        yield opened


@pytest.fixture
def templates(channel: grpc.aio.Channel) -> Any:
    return template_service_pb2_grpc.TemplateServiceStub(channel)


@pytest.fixture
def prompts(channel: grpc.aio.Channel) -> Any:
    return prompt_service_pb2_grpc.PromptServiceStub(channel)


async def test_the_suites_templates_are_everybodys(templates: Any) -> None:
    listed = (await templates.ListAgentTemplates(template_service_pb2.ListAgentTemplatesRequest())).agent_templates
    assert len(listed) == 20
    assert all(one.built_in and one.revision == 0 and not one.HasField("create_time") for one in listed)
    request = template_service_pb2.GetAgentTemplateRequest(template_id="retention_churn")
    found = (await templates.GetAgentTemplate(request)).agent_template
    assert found.spec.category == "retention"
    assert found.spec.knowledge_scope.lookback_days == 90


async def test_an_agent_from_a_template(templates: Any) -> None:
    overrides = agent_pb2.Agent(agent_id="mine", display_name="Mine")
    overrides.spec.model.model = "offline"
    request = template_service_pb2.CreateAgentFromTemplateRequest(
        template_id="balanced", overrides=overrides, request_id="r-1"
    )
    made = (await templates.CreateAgentFromTemplate(request)).agent
    again = (await templates.CreateAgentFromTemplate(request)).agent
    assert made == again
    assert (made.agent_id, made.display_name, made.spec.model.model) == ("mine", "Mine", "offline")
    assert dict(made.labels) == {"template": "balanced", "template-revision": "0"}
    assert made.spec.instructions
    assert "builtin/calculator" in [tool.tool_id for tool in made.spec.tools]


async def test_a_tenants_own_template_goes_first(templates: Any) -> None:
    own = agent_template_pb2.AgentTemplate(template_id="balanced", display_name="Ours")
    own.spec.agent.model.model = "offline"
    request = template_service_pb2.CreateAgentTemplateRequest(agent_template=own)
    made = (await templates.CreateAgentTemplate(request)).agent_template
    assert (made.built_in, made.revision) == (False, 1)
    get = template_service_pb2.GetAgentTemplateRequest(template_id="balanced")
    assert (await templates.GetAgentTemplate(get)).agent_template == made
    await templates.DeleteAgentTemplate(template_service_pb2.DeleteAgentTemplateRequest(template_id="balanced"))
    assert (await templates.GetAgentTemplate(get)).agent_template.built_in


async def test_the_suites_templates_cannot_be_changed(templates: Any) -> None:
    change = template_service_pb2.UpdateAgentTemplateRequest(
        agent_template=agent_template_pb2.AgentTemplate(template_id="balanced", display_name="x"),
        update_mask=FieldMask(paths=["display_name"]),
    )
    delete = template_service_pb2.DeleteAgentTemplateRequest(template_id="balanced")
    for call in (templates.UpdateAgentTemplate(change), templates.DeleteAgentTemplate(delete)):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call
        assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
        assert harness.reason_of(caught.value) == "NOT_SUPPORTED"


async def test_unknown_template(templates: Any) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await templates.GetAgentTemplate(template_service_pb2.GetAgentTemplateRequest(template_id="nothing"))
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


def greeting(template: str = "Hello {{ name }}!") -> prompt_pb2.Prompt:
    variables = [prompt_pb2.PromptVariable(name="name")]
    spec = prompt_pb2.PromptSpec(template=template, variables=variables)
    return prompt_pb2.Prompt(prompt_id="greeting", spec=spec)


def render(**variables: Any) -> prompt_service_pb2.RenderPromptRequest:
    request = prompt_service_pb2.RenderPromptRequest(prompt_id="greeting")
    request.variables.update(variables)
    return request


async def test_rendering(prompts: Any) -> None:
    await prompts.CreatePrompt(prompt_service_pb2.CreatePromptRequest(prompt=greeting()))
    rendered = await prompts.RenderPrompt(render(name="Ana"))
    assert (rendered.text, rendered.revision) == ("Hello Ana!", 1)
    for variables, field in (({}, "variables.name"), ({"name": "a", "nmae": "b"}, "variables.nmae")):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await prompts.RenderPrompt(render(**variables))
        assert harness.fields_of(caught.value) == [field]


async def test_feedback_and_comparison(prompts: Any) -> None:
    await prompts.CreatePrompt(prompt_service_pb2.CreatePromptRequest(prompt=greeting()))
    change = prompt_service_pb2.UpdatePromptRequest(
        prompt=greeting("Hi {{ name }}."), update_mask=FieldMask(paths=["spec.template"])
    )
    await prompts.UpdatePrompt(change)
    for success, pattern in ((True, ""), (False, "too short"), (False, "too short")):
        feedback = prompt_service_pb2.RecordFeedbackRequest(
            prompt_id="greeting",
            revision=1,
            success=success,
            latency=Duration(seconds=2),
            tokens=10,
            failure_pattern=pattern,
        )
        metrics = (await prompts.RecordFeedback(feedback)).metrics
    assert (metrics.uses, metrics.latency.seconds, metrics.tokens) == (3, 2, 10)
    assert metrics.success_rate == pytest.approx(0.81)
    assert [(one.pattern, one.count) for one in metrics.failing_patterns] == [("too short", 2)]
    compared = await prompts.ComparePrompt(
        prompt_service_pb2.ComparePromptRequest(prompt_id="greeting", base_revision=1)
    )
    assert (compared.base.revision, compared.target.revision) == (1, 2)
    assert (compared.base_metrics.uses, compared.target_metrics.uses) == (3, 0)
    assert [one.path for one in compared.differences] == ["spec.template"]
    history = await prompts.ListPromptRevisions(prompt_service_pb2.ListPromptRevisionsRequest(prompt_id="greeting"))
    assert [one.revision for one in history.revisions] == [2, 1]
