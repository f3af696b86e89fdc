"""Agents, teams and workflows with what they refer to, read from Registry."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import grpc
from dynamicagents.registry.v1 import (
    agent_pb2,
    agent_service_pb2,
    agent_service_pb2_grpc,
    prompt_service_pb2,
    prompt_service_pb2_grpc,
    team_service_pb2,
    team_service_pb2_grpc,
    tool_definition_pb2,
    tool_definition_service_pb2,
    tool_definition_service_pb2_grpc,
    workflow_service_pb2,
    workflow_service_pb2_grpc,
)
from google.protobuf.json_format import MessageToDict

from libs import errors
from libs.client import translated
from services.execution.model.targets import Agent, Part, Pinned, Target, TargetKind, Team, Workflow
from services.execution.service.handoffs import target_named
from services.execution.service.tools import is_target

_FUNCTION: Final = "function/"
_MOST: Final = 256
_MOST_PARTS: Final = 1000


class RegistryConfigurations:
    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._agents: agent_service_pb2_grpc.AgentServiceAsyncStub = agent_service_pb2_grpc.AgentServiceStub(channel)
        self._prompts: prompt_service_pb2_grpc.PromptServiceAsyncStub
        self._prompts = prompt_service_pb2_grpc.PromptServiceStub(channel)
        self._definitions: tool_definition_service_pb2_grpc.ToolDefinitionServiceAsyncStub
        self._definitions = tool_definition_service_pb2_grpc.ToolDefinitionServiceStub(channel)
        self._teams: team_service_pb2_grpc.TeamServiceAsyncStub = team_service_pb2_grpc.TeamServiceStub(channel)
        self._workflows: workflow_service_pb2_grpc.WorkflowServiceAsyncStub
        self._workflows = workflow_service_pb2_grpc.WorkflowServiceStub(channel)

    async def pinned(self, target: Target, revision: int) -> Pinned:
        """The target, and all that it names, each once however often it is named."""
        parts: dict[str, Part] = {target.key: await self._part(target, revision)}
        wanted = dict.fromkeys(named_in(parts[target.key]))
        while new := [one for one in wanted if one.key not in parts]:
            if len(parts) + len(new) > _MOST_PARTS:
                raise errors.FailedPrecondition(
                    f"{target.key} runs more than {_MOST_PARTS} agents, teams and workflows",
                    metadata={"target": target.key},
                )
            found = await asyncio.gather(*(self._part(one, 0) for one in new))
            parts |= {one.key: part for one, part in zip(new, found, strict=True)}
            wanted = dict.fromkeys(one for part in found for one in named_in(part))
        return Pinned(target.key, parts)

    async def _part(self, target: Target, revision: int) -> Part:
        match target.kind:
            case TargetKind.AGENT:
                return await self.get(target.target_id, revision)
            case TargetKind.TEAM:
                return await self._team(target.target_id, revision)
            case TargetKind.WORKFLOW:
                return await self._workflow(target.target_id, revision)

    async def _team(self, team_id: str, revision: int) -> Team:
        request = team_service_pb2.GetTeamRequest(team_id=team_id, revision=revision)
        with translated("registry"):
            team = (await self._teams.GetTeam(request)).team
            functions = await self._functions([tool.tool_id for tool in team.spec.tools])
        spec = MessageToDict(team.spec, preserving_proto_field_name=True)
        return Team(team.team_id, team.revision, team.description, spec, functions)

    async def _workflow(self, workflow_id: str, revision: int) -> Workflow:
        request = workflow_service_pb2.GetWorkflowRequest(workflow_id=workflow_id, revision=revision)
        with translated("registry"):
            workflow = (await self._workflows.GetWorkflow(request)).workflow
            spec = MessageToDict(workflow.spec, preserving_proto_field_name=True)
            functions = await self._functions(
                [step["function"]["tool_id"] for step in steps_of(spec.get("steps")) if "function" in step]
            )
        return Workflow(workflow.workflow_id, workflow.revision, workflow.description, spec, functions)

    async def get(self, agent_id: str, revision: int) -> Agent:
        request = agent_service_pb2.GetAgentRequest(agent_id=agent_id, revision=revision)
        with translated("registry"):
            agent = (await self._agents.GetAgent(request)).agent
            if agent.spec.HasField("prompt"):
                await self._prepend_prompt(agent.spec)
            functions = await self._functions([tool.tool_id for tool in agent.spec.tools])
        spec = MessageToDict(agent.spec, preserving_proto_field_name=True)
        return Agent(agent.agent_id, agent.revision, agent.description, spec, functions)

    async def tools_of_all(self) -> Mapping[str, Sequence[str]]:
        """The ids and patterns of tools that each agent of the caller's tenant names."""
        found: dict[str, Sequence[str]] = {}
        request = agent_service_pb2.ListAgentsRequest(page_size=_MOST)
        with translated("registry"):
            while True:
                page = await self._agents.ListAgents(request)
                found |= {agent.agent_id: [tool.tool_id for tool in agent.spec.tools] for agent in page.agents}
                request.page_token = page.next_page_token
                if not request.page_token:
                    return found

    async def _functions(self, tool_ids: Sequence[str]) -> Sequence[Mapping[str, Any]]:
        """The functions among the tools, or among those that a pattern such as function/crm-* stands for."""
        named = [one.removeprefix(_FUNCTION) for one in tool_ids if one.startswith(_FUNCTION)]
        found = [
            definition for name in named for definition in await (self._all(name) if "*" in name else self._one(name))
        ]
        return [_function(definition) for definition in found]

    async def _one(self, tool_definition_id: str) -> Sequence[tool_definition_pb2.ToolDefinition]:
        request = tool_definition_service_pb2.GetToolDefinitionRequest(tool_definition_id=tool_definition_id)
        try:
            return [(await self._definitions.GetToolDefinition(request)).tool_definition]
        except grpc.aio.AioRpcError as error:
            if error.code() in (grpc.StatusCode.NOT_FOUND, grpc.StatusCode.INVALID_ARGUMENT):
                return []
            raise

    async def _all(self, pattern: str) -> Sequence[tool_definition_pb2.ToolDefinition]:
        conditions = f'tool_definition_id = "{pattern}"' if pattern != "*" else ""
        request = tool_definition_service_pb2.ListToolDefinitionsRequest(page_size=_MOST, filter=conditions)
        return (await self._definitions.ListToolDefinitions(request)).tool_definitions

    async def _prepend_prompt(self, spec: agent_pb2.AgentSpec) -> None:
        request = prompt_service_pb2.RenderPromptRequest(
            prompt_id=spec.prompt.prompt_id, revision=spec.prompt.revision, variables=spec.prompt.variables
        )
        rendered = await self._prompts.RenderPrompt(request)
        spec.instructions.insert(0, rendered.text)


def _function(definition: tool_definition_pb2.ToolDefinition) -> Mapping[str, Any]:
    """As the fields of Tool."""
    spec, name = definition.spec, definition.tool_definition_id
    return {
        "tool_id": f"{_FUNCTION}{name}",
        "function_name": spec.function_name or name.replace("-", "_"),
        "title": definition.display_name,
        "description": definition.description,
        "input_schema": MessageToDict(spec.input_schema),
        "output_schema": MessageToDict(spec.output_schema) if spec.HasField("output_schema") else None,
        "version": str(definition.revision),
        "read_only": spec.read_only,
        "idempotent": spec.idempotent,
    }


def named_in(part: Part) -> Iterator[Target]:
    """What a configuration runs beside itself."""
    match part:
        case Agent(spec=spec) | Team(spec=spec):
            yield from map(target_named, (*spec.get("handoffs", ()), *spec.get("members", ())))
            yield from (Target.of(one["tool_id"]) for one in spec.get("tools", ()) if is_target(one["tool_id"]))
        case Workflow(spec=spec):
            steps = list(steps_of(spec.get("steps")))
            yield from (target_named(step[kind]) for step in steps for kind in TargetKind if kind in step)


def steps_of(value: Any) -> Iterator[Mapping[str, Any]]:
    """All steps in the steps of a WorkflowSpec, nested ones included."""
    if isinstance(value, Mapping):
        if isinstance(value.get("step_id"), str):
            yield value
        for inner in value.values():
            yield from steps_of(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from steps_of(inner)
