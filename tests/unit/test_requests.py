"""What is checked of every request: page tokens, field masks, the rules of the contracts, ids, deadlines."""

from __future__ import annotations

import asyncio
import base64
from typing import Any

import orjson
import pytest
from dynamicagents.registry.v1 import agent_pb2, agent_service_pb2, router_config_pb2
from google.protobuf.field_mask_pb2 import FieldMask

from libs import deadline, errors, ids, masks, pagination
from libs.validation import validate

QUERY: dict[str, Any] = {"kind": "agent", "labels": {"a": "1"}}
MASKED = ("display_name", "labels", "spec")


def fields(caught: pytest.ExceptionInfo[errors.InvalidArgument]) -> list[str]:
    return [violation.field for violation in caught.value.violations]


def test_page_token_gives_back_its_key() -> None:
    assert pagination.from_token(pagination.to_token("helper", QUERY), dict(reversed(QUERY.items()))) == "helper"
    assert pagination.from_token("", QUERY) == ""


@pytest.mark.parametrize(
    "token",
    [
        pagination.to_token("helper", {**QUERY, "labels": {}}),
        pagination.to_token("helper", QUERY)[:-6],
        "%%%",
        "é",
        base64.urlsafe_b64encode(b"5").decode(),
        base64.urlsafe_b64encode(b'["a", "b", "c"]').decode(),
        base64.urlsafe_b64encode(orjson.dumps(["other", pagination._digest("last", QUERY)])).decode(),
        base64.urlsafe_b64encode(orjson.dumps([5, pagination._digest(5, QUERY)])).decode(),
    ],
    ids=["other query", "cut", "no base64", "no ascii", "no pair", "three", "other last", "no text"],
)
def test_foreign_page_token(token: str) -> None:
    with pytest.raises(errors.InvalidArgument) as caught:
        pagination.from_token(token, QUERY)
    assert fields(caught) == ["page_token"]


def test_page_size() -> None:
    assert (pagination.page_size(0), pagination.page_size(7)) == (pagination.DEFAULT_PAGE_SIZE, 7)


@pytest.mark.parametrize("path", ["display_name", "labels", "spec", "spec.model.temperature", "spec.output_schema"])
def test_mask_names_changeable_fields(path: str) -> None:
    assert masks.paths(FieldMask(paths=[path]), agent_pb2.Agent.DESCRIPTOR, MASKED) == [path]


@pytest.mark.parametrize(
    "path",
    [
        "nonsense",
        "spec.nonsense",
        "revision",
        "agent_id",
        "",
        "*",
        "spec.",
        "labels.team",
        "spec.tools.tool_id",
        "spec.output_schema.fields",
        "display_name.x",
        "displayName",
    ],
)
def test_bad_mask_paths(path: str) -> None:
    with pytest.raises(errors.InvalidArgument) as caught:
        masks.paths(FieldMask(paths=["display_name", path]), agent_pb2.Agent.DESCRIPTOR, MASKED)
    assert fields(caught) == ["update_mask"]


def test_empty_mask() -> None:
    with pytest.raises(errors.InvalidArgument) as caught:
        masks.paths(FieldMask(), agent_pb2.Agent.DESCRIPTOR, MASKED)
    assert fields(caught) == ["update_mask"]


def test_violation_paths() -> None:
    spec = agent_pb2.AgentSpec(
        model=agent_pb2.ModelSettings(model="offline", temperature=3),
        tools=[agent_pb2.ToolReference(tool_id="builtin/ok"), agent_pb2.ToolReference(tool_id="NO")],
    )
    agent = agent_pb2.Agent(agent_id="Bad Id", spec=spec, labels={"team": "x" * 300})
    with pytest.raises(errors.InvalidArgument) as caught:
        validate(agent_service_pb2.CreateAgentRequest(agent=agent))
    assert sorted(fields(caught)) == [
        "agent.agent_id",
        "agent.labels['team']",
        "agent.spec.model.temperature",
        "agent.spec.tools[1].tool_id",
    ]


def test_missing_message_is_named() -> None:
    with pytest.raises(errors.InvalidArgument) as caught:
        validate(agent_service_pb2.CreateAgentRequest())
    assert fields(caught) == ["agent"]


def test_validation_repeats_no_value() -> None:
    with pytest.raises(errors.InvalidArgument) as caught:
        validate(router_config_pb2.Deployment(model_group="g", model="openai/x", api_key_reference="sk-1" * 200))
    assert fields(caught) == ["api_key_reference"]
    assert "sk-1" not in str(caught.value)


@pytest.mark.parametrize("text", ["a", "0", "a-b", "a" * 63, pytest.param(ids.new_id(), id="ours")])
def test_ids(text: str) -> None:
    assert ids.is_id(text)


@pytest.mark.parametrize("text", ["", "A", "-a", "a-", "a_b", "a" * 64, "a\n", "é"])
def test_what_is_no_id(text: str) -> None:
    assert not ids.is_id(text)


def test_new_ids_are_in_order() -> None:
    made = [ids.new_id() for _ in range(100)]
    assert len(set(made)) == 100
    assert made == sorted(made)


async def test_no_deadline() -> None:
    assert deadline.remaining() is None
    assert deadline.narrowed(None) is None
    assert deadline.narrowed(5.0) == 5.0


async def test_deadline_narrows() -> None:
    deadline.enter(10.0)
    assert deadline.narrowed(5.0) == 5.0
    assert deadline.narrowed(None) == pytest.approx(10.0, abs=0.5)
    assert deadline.narrowed(20.0) == pytest.approx(10.0, abs=0.5)


async def test_deadline_that_has_passed_is_zero() -> None:
    deadline.enter(-1.0)
    assert deadline.narrowed(5.0) == 0.0


async def test_deadline_belongs_to_its_task() -> None:
    async def other() -> float | None:
        deadline.enter(1.0)
        return deadline.remaining()

    assert await asyncio.create_task(other()) is not None
    assert deadline.remaining() is None
