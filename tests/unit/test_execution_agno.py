from __future__ import annotations

import asyncio
import copy
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import agno.utils.log
import orjson
import pytest
import structlog
from agno.models.message import Message
from agno.run.cancel import get_cancellation_manager

from libs import errors
from services.execution.gateways.agno.model import RouterModel
from services.execution.gateways.agno.runner import AgnoRunner
from services.execution.model.events import (
    CitationsReported,
    ContentDelta,
    ContentRestarted,
    Event,
    ReasoningDelta,
    StateChanged,
    ToolCallCompleted,
    ToolCallStarted,
    UsageReported,
)
from services.execution.model.executions import ExecuteRequest, Usage
from services.execution.model.sessions import Background, Kept, Memory, Pin
from services.execution.model.targets import Agent
from services.execution.model.tools import BoundTool, Tool
from services.execution.model.turns import Answer, Job, ModelCall, ModelPiece, ToolCall
from services.execution.service.outputs import Unfit
from services.execution.service.own_tools import STATE, OwnTools, own_tools
from services.execution.service.tools import Tools, idempotency_key
from tests.memory_journal import MemoryJournal

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
Turn = list[ModelPiece | Exception | float]
STATE_NAME = STATE.removeprefix("builtin/")


def says(*words: str) -> Turn:
    return [*(ModelPiece(text=word) for word in words), ModelPiece(usage=UsageReported(10, 5))]


def asks(*calls: tuple[str, str], ids: Sequence[str] | None = None) -> Turn:
    """One piece for each call, as a provider's stream has them; usage at the end."""
    named = ids or [f"call-{n}" for n in range(1, len(calls) + 1)]
    pieces = [
        ModelPiece(tool_calls=[ToolCall(call_id, name, arguments)])
        for call_id, (name, arguments) in zip(named, calls, strict=True)
    ]
    return [*pieces, ModelPiece(usage=UsageReported(10, 5))]


@dataclass
class Models:
    """Plays a turn a call; the last one again when all are played."""

    turns: list[Turn]
    calls: list[ModelCall] = field(default_factory=list)
    closed: int = 0

    async def stream(self, call: ModelCall) -> AsyncGenerator[ModelPiece, None]:
        self.calls.append(call)
        turn = self.turns[min(len(self.calls), len(self.turns)) - 1]
        try:
            for step in turn:
                if isinstance(step, Exception):
                    raise step
                if isinstance(step, float):
                    await asyncio.sleep(step)
                else:
                    yield copy.deepcopy(step)
        finally:
            self.closed += 1


Behaviour = Callable[[Mapping[str, Any]], Any]


@dataclass
class Source:
    """Tools that do as told, behind the real `Tools`."""

    behaviour: dict[str, Behaviour]
    calls: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    def tools(self) -> Sequence[Tool]:
        anything = {"type": "object"}
        return [Tool(f"test/{name}", name, name, f"does {name}", anything, "1") for name in self.behaviour]

    async def call(self, tool: Tool, arguments: Mapping[str, Any]) -> str:
        self.calls.append((tool.function_name, dict(arguments)))
        result = self.behaviour[tool.function_name](arguments)
        return await result if asyncio.iscoroutine(result) else result


@dataclass
class Rig:
    models: Models
    source: Source
    events: list[Event] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    usage: Usage = field(default_factory=Usage)
    journal: MemoryJournal = field(default_factory=MemoryJournal)

    def __post_init__(self) -> None:
        self.journal.emit = self.note

    async def run(self, text: str = "hi", *, description: str = "", timeout: float = 30.0, **spec: Any) -> Answer:
        tools = Tools([self.source])
        bound = tuple(BoundTool(tool, timeout) for tool in self.source.tools())
        agent = Agent("helper", 3, description, {"model": {"model": "group"}, **spec})
        job = Job("run-1", agent, ExecuteRequest("helper", text), bound, self.usage, NOW)
        return await AgnoRunner(self.models, tools).run(job, self.journal)

    def note(self, event: Event) -> None:
        self.events.append(event)
        self.times.append(time.perf_counter())

    def of(self, kind: type[Any]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]

    def system(self) -> str:
        return str(self.models.calls[0].messages[0]["content"])

    def message(self, call: int, role: str) -> list[dict[str, Any]]:
        return [m for m in self.models.calls[call].messages if m["role"] == role]


def rig(*turns: Turn, **behaviour: Behaviour) -> Rig:
    return Rig(Models(list(turns)), Source(behaviour))


# The prompt


@pytest.mark.parametrize(
    "text",
    ["{session_state}", "$token ${token} {user_id}", "{{x}} {0} %s", "  spaces \n and lines\n", "{agent.name!r}"],
)
async def test_user_text_reaches_the_model_as_typed(text: str) -> None:
    at = rig(says("ok"))
    await at.run(text, instructions=["say {token} and $name"])
    assert [m["content"] for m in at.message(0, "user")] == [text]
    assert "say {token} and $name" in at.system()


async def test_prompt_says_what_the_agent_is() -> None:
    at = rig(says("ok"))
    await at.run(
        description="A clerk",
        instructions=["Be brief", "Be kind"],
        expected_output="One line",
        additional_context="It rains",
        markdown=True,
        add_datetime_to_context=True,
        timezone="America/Sao_Paulo",
    )
    for part in ("A clerk", "Be brief", "Be kind", "One line", "It rains", "markdown", "current time"):
        assert part in at.system()
    assert "-03" in at.system()


async def test_unknown_time_zone_is_no_defect() -> None:
    at = rig(says("ok"))
    assert (await at.run(add_datetime_to_context=True, timezone="Mars/Base")).output == "ok"


async def test_nothing_is_added_to_the_prompt_unasked() -> None:
    at = rig(says("ok"))
    await at.run()
    assert [m["role"] for m in at.models.calls[0].messages] == ["user"]


async def test_model_and_its_settings_come_from_the_agent() -> None:
    at = rig(says("ok"))
    await at.run(model={"model": "gpt", "temperature": 0.3})
    assert (at.models.calls[0].model, at.models.calls[0].settings["temperature"]) == ("gpt", 0.3)
    assert at.models.calls[0].execution_id == "run-1"


async def test_no_model_means_no_default_of_agno() -> None:
    at = rig(says("ok"))
    await at.run(model={})
    assert at.models.calls[0].model == ""
    assert "agno.models.openai" not in sys.modules


# Runs share nothing


async def test_runs_with_one_session_or_none_know_nothing_of_each_other() -> None:
    for session in ("", "shared"):
        for text in ("first", "second"):
            models = Models([says("ok")])
            agent = Agent("helper", 1, "", {"model": {"model": "group"}})
            request = ExecuteRequest("helper", text, session_id=session)
            job = Job(f"run-{text}", agent, request, (), Usage(), NOW)
            await AgnoRunner(models, Tools([])).run(job, MemoryJournal())
            assert [m["content"] for m in models.calls[0].messages] == [text]


async def test_concurrent_runs_have_their_own_instructions_and_tools() -> None:
    async def one(n: int) -> Rig:
        name = f"tool_{n}"
        at = rig([0.01, *asks((name, f'{{"n": {n}}}'))], [0.01, *says(f"done {n}")], **{name: lambda given: str(given)})
        assert (await at.run(f"input {n}", instructions=[f"rule {n}."])).output == f"done {n}"
        return at

    for n, at in enumerate(await asyncio.gather(*map(one, range(20)))):
        assert f"rule {n}." in at.system()
        assert [tool["function"]["name"] for tool in at.models.calls[0].tools] == [f"tool_{n}"]
        assert at.source.calls == [(f"tool_{n}", {"n": n})]
        assert at.message(0, "user")[0]["content"] == f"input {n}"


async def test_runs_leave_nothing_behind() -> None:
    before = asyncio.all_tasks()
    for _ in range(3):
        await rig(asks(("f", "{}")), says("ok"), f=lambda _: "done").run()
    with pytest.raises(errors.Internal):
        await rig([errors.Internal("x")]).run()
    task = asyncio.create_task(rig([30.0]).run())
    await asyncio.sleep(0.05)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await asyncio.sleep(0.05)
    assert asyncio.all_tasks() == before
    assert await get_cancellation_manager().aget_active_runs() == {}


async def test_what_nobody_expected_is_logged_and_told_to_nobody() -> None:
    with structlog.testing.capture_logs() as logs, pytest.raises(errors.Internal) as caught:
        await rig([ValueError("a secret")]).run()
    assert "secret" not in caught.value.message
    assert [(line["event"], line["execution_id"]) for line in logs] == [("agno failed unexpectedly", "run-1")]


def test_telemetry_is_off_whatever_the_environment_says() -> None:
    code = (
        "import asyncio, os, threading\n"
        "from services.execution.gateways.agno.runner import AgnoRunner\n"
        "asyncio.run(AgnoRunner(None, None).warm_up())\n"
        "print(os.environ['AGNO_TELEMETRY'], [t.name for t in threading.enumerate()])\n"
    )
    env = {**os.environ, "AGNO_TELEMETRY": "true"}
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], env=env, cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.split()[0] == "false"
    assert "agno-telemetry" not in done.stdout


async def test_no_thread_of_telemetry() -> None:
    await rig(asks(("f", "{}")), says("ok"), f=lambda _: "done").run()
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("agno")]


async def test_agno_logs_nothing_and_its_debug_stays_off(capfd: pytest.CaptureFixture[str]) -> None:
    at = rig(asks(("f", "not json"), ("missing", "{}")), [errors.Internal("x")], f=lambda _: "done")
    with pytest.raises(errors.Internal):
        await at.run("a secret")
    assert capfd.readouterr() == ("", "")
    assert not agno.utils.log.debug_on
    assert logging.getLogger().level != logging.DEBUG


# Limits


async def test_model_that_never_stops_calling_is_stopped() -> None:
    at = rig(asks(("f", "{}")), f=lambda _: "again")
    with pytest.raises(errors.ResourceExhausted) as caught:
        await at.run(max_model_calls=4)
    assert caught.value.reason_code == "MODEL_CALL_LIMIT"
    assert (len(at.models.calls), at.usage.model_calls, at.usage.tool_calls) == (4, 4, 4)


async def test_model_calls_are_limited_by_default() -> None:
    at = rig(asks(("f", "{}")), f=lambda _: "again")
    with pytest.raises(errors.ResourceExhausted):
        await at.run()
    assert at.usage.model_calls == 50


async def test_tool_calls_over_the_limit_are_answered_with_an_error() -> None:
    at = rig(asks(("f", '{"n": 1}'), ("f", '{"n": 2}'), ("f", '{"n": 3}')), says("ok"), f=lambda _: "done")
    assert (await at.run(tool_call_limit=2)).output == "ok"
    assert len(at.source.calls) == at.usage.tool_calls == 2
    assert sorted(event.is_error for event in at.of(ToolCallCompleted)) == [False, False, True]


@pytest.mark.parametrize(
    ("choice", "first", "later"),
    [
        ("", "", ""),
        ("auto", "auto", "auto"),
        ("none", "none", "none"),
        ("required", "required", "auto"),
        ("test/f", "f", "auto"),
    ],
)
async def test_forced_tool_is_forced_once(choice: str, first: str, later: str) -> None:
    at = rig(asks(("f", "{}")), asks(("f", "{}")), says("ok"), f=lambda _: "done")
    await at.run(**({"tool_choice": choice} if choice else {}))
    assert [call.tool_choice for call in at.models.calls] == [first, later, later]


async def test_no_tool_choice_without_tools() -> None:
    at = rig(says("ok"))
    await at.run(tool_choice="required")
    assert at.models.calls[0].tool_choice == ""


# Tools


async def test_events_of_a_run_with_a_tool() -> None:
    at = rig([ModelPiece(text="let me see"), *asks(("f", '{"x": 1}'))], says("It", " is"), f=lambda _: "done")
    assert await at.run() == Answer("It is")
    assert [event.kind for event in at.events] == [
        "content_delta",
        "usage_reported",
        "tool_call_started",
        "tool_call_completed",
        "content_delta",
        "content_delta",
        "usage_reported",
    ]
    started, completed = at.of(ToolCallStarted)[0], at.of(ToolCallCompleted)[0]
    assert (started.call_id, started.tool_id, started.arguments) == ("call-1", "test/f", {"x": 1})
    assert (completed.call_id, completed.output, completed.is_error) == ("call-1", "done", False)


async def test_calls_in_one_piece_or_in_several_run_with_their_own_arguments() -> None:
    calls = [ToolCall(f"c{n}", "f", f'{{"n": {n}}}') for n in range(3)]
    together: Turn = [ModelPiece(tool_calls=calls), ModelPiece(usage=UsageReported())]
    apart: Turn = [*(ModelPiece(tool_calls=[call]) for call in calls), ModelPiece(usage=UsageReported())]
    for turn in (together, apart):
        at = rig(turn, says("ok"), f=lambda given: str(given["n"]))
        await at.run()
        assert {(e.call_id, e.output) for e in at.of(ToolCallCompleted)} == {("c0", "0"), ("c1", "1"), ("c2", "2")}
        assert [(m["tool_call_id"], m["content"]) for m in at.message(1, "tool")] == [
            ("c0", "0"),
            ("c1", "1"),
            ("c2", "2"),
        ]


async def test_fast_tool_is_reported_before_its_slow_sibling_ends() -> None:
    async def slow(_: Any) -> str:
        await asyncio.sleep(0.2)
        return "slow"

    at = rig(asks(("slow", "{}"), ("fast", "{}")), says("ok"), slow=slow, fast=lambda _: "fast")
    await at.run()
    completed = {e.output: at.times[at.events.index(e)] for e in at.of(ToolCallCompleted)}
    assert completed["slow"] - completed["fast"] > 0.15


async def test_second_turn_knows_the_call_and_its_result() -> None:
    at = rig(asks(("f", '{"x":  "none"}'), ids=["abc"]), says("ok"), f=lambda _: "42")
    await at.run()
    user, assistant, tool = at.models.calls[1].messages
    assert (user["role"], user["content"]) == ("user", "hi")
    assert assistant["role"] == "assistant"
    assert assistant["tool_calls"] == [
        {"id": "abc", "type": "function", "function": {"name": "f", "arguments": '{"x":  "none"}'}}
    ]
    assert (tool["role"], tool["tool_call_id"], tool["content"], tool["name"]) == ("tool", "abc", "42", "f")


async def test_ids_that_the_model_leaves_out_or_uses_twice_become_unique() -> None:
    first = asks(("f", '{"n": 0}'), ("f", '{"n": 1}'), ("f", '{"n": 2}'), ids=["", "", "x"])
    again = asks(("f", '{"n": 3}'), ("f", '{"n": 4}'), ids=["x", "x"])
    at = rig(first, again, says("ok"), f=lambda given: str(given["n"]))
    await at.run()
    outputs = {event.call_id: event.output for event in at.of(ToolCallCompleted)}
    assert sorted(outputs.values()) == ["0", "1", "2", "3", "4"]
    written = [call for m in at.message(2, "assistant") for call in m["tool_calls"]]
    for call in written:
        assert outputs[call["id"]] == str(orjson.loads(call["function"]["arguments"])["n"])
    assert [m["tool_call_id"] for m in at.message(2, "tool")] == [call["id"] for call in written]


@pytest.mark.parametrize(
    "arguments", ["{", "[1]", "[]", '"text"', "null", "{'a': 1}", '{"a": NaN}', "None", '{"a":' * 60 + "1" + "}" * 60]
)
async def test_arguments_that_are_no_object_reach_no_tool(arguments: str) -> None:
    at = rig(asks(("f", arguments)), says("ok"), f=lambda _: "done")
    assert (await at.run()).output == "ok"
    assert at.source.calls == []
    assert [e.kind for e in at.events[1:3]] == ["tool_call_started", "tool_call_completed"]
    assert [e.is_error for e in at.of(ToolCallCompleted)] == [True]
    assert at.message(1, "tool")[0]["content"] == at.of(ToolCallCompleted)[0].output


async def test_no_arguments_are_an_empty_object() -> None:
    at = rig(asks(("f", "")), says("ok"), f=lambda _: "done")
    await at.run()
    assert at.source.calls == [("f", {})]


async def test_unknown_tool_is_reported_and_the_run_goes_on() -> None:
    at = rig(asks(("missing", '{"x": 1}'), ("f", "{}")), says("ok"), f=lambda _: "done")
    assert (await at.run()).output == "ok"
    started, completed = at.of(ToolCallStarted)[0], at.of(ToolCallCompleted)[0]
    assert (started.tool_id, started.arguments, started.call_id) == ("missing", {"x": 1}, "call-1")
    assert (completed.tool_id, completed.is_error, completed.call_id) == ("missing", True, "call-1")
    assert {m["tool_call_id"] for m in at.message(1, "tool")} == {"call-1", "call-2"}
    assert at.usage.tool_calls == 1


async def test_arguments_arrive_as_the_model_wrote_them() -> None:
    written = {
        "a": "true",
        "b": "None",
        "c": " null ",
        "d": False,
        "e": 1.5,
        "f": "007",
        "g": None,
        "h": [1, {"x": "FALSE"}],
        "i": "",
    }
    at = rig(asks(("f", orjson.dumps(written).decode())), says("ok"), f=lambda _: "done")
    await at.run()
    assert at.source.calls == [("f", written)]
    assert at.of(ToolCallStarted)[0].arguments == written


async def test_arguments_may_have_the_names_that_agno_injects() -> None:
    names = ("agent", "team", "run_context", "images", "videos", "audios", "files", "fc", "self", "session_state", "_x")
    written = dict.fromkeys(names, "mine")
    at = rig(asks(("f", orjson.dumps(written).decode())), says("ok"), f=lambda _: "done")
    await at.run()
    assert at.source.calls == [("f", written)]


@pytest.mark.parametrize("name", ["get_user_input", "ask_user", "think", "search_knowledge_base"])
async def test_tool_names_mean_nothing_to_agno(name: str) -> None:
    arguments = '{"questions": [{"question": "x"}], "user_input_fields": [{"field_name": "x"}]}'
    at = rig(asks((name, arguments)), says("ok"), **{name: lambda _: "done"})
    assert (await at.run()).output == "ok"
    assert len(at.source.calls) == 1


async def test_arguments_that_break_the_schema_are_refused_by_us() -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "additionalProperties": False}

    class Strict(Source):
        def tools(self) -> Sequence[Tool]:
            return [Tool("test/f", "f", "f", "f", schema, "1")]

    source = Strict({"f": lambda _: "done"})
    turns = [asks(("f", '{"n": "1"}')), asks(("f", '{"m": 1}')), asks(("f", '{"n": 1}')), says("ok")]
    at = Rig(Models(turns), source)
    await at.run()
    assert [event.is_error for event in at.of(ToolCallCompleted)] == [True, True, False]
    assert source.calls == [("f", {"n": 1})]
    assert at.models.calls[0].tools[0]["function"]["parameters"] == schema


async def test_failing_tool_is_an_answer_to_the_model() -> None:
    def fails(_: Any) -> str:
        raise RuntimeError("password=hunter2")

    at = rig(asks(("f", "{}")), says("ok"), f=fails)
    assert (await at.run()).output == "ok"
    completed = at.of(ToolCallCompleted)[0]
    assert completed.is_error
    assert "hunter2" not in completed.output
    assert at.message(1, "tool")[0]["content"] == completed.output


async def test_slow_tool_is_given_up() -> None:
    async def slow(_: Any) -> str:
        await asyncio.sleep(30)
        return ""

    at = rig(asks(("f", "{}")), says("ok"), f=slow)
    assert (await at.run(timeout=0.05)).output == "ok"
    completed = at.of(ToolCallCompleted)[0]
    assert completed.is_error
    assert 0.04 < completed.duration < 1


async def test_tools_are_offered_without_agnos_own_keys() -> None:
    from services.execution.gateways.router import _request

    at = rig(says("ok"), f=lambda _: "done")
    await at.run()
    offered = at.models.calls[0].tools[0]["function"]
    call = copy.deepcopy(at.models.calls[0])
    call.tools[0]["function"] = {
        **offered,
        "requires_confirmation": True,
        "external_execution": True,
        "approval_type": "x",
    }
    sent = _request(call).tools[0]
    assert (sent.name, sent.description) == ("f", "does f")
    assert not sent.HasField("strict")
    assert {name.name for name, _ in sent.ListFields()} <= {"name", "description", "parameters"}


# Usage


async def test_usage_is_counted_once_a_turn() -> None:
    usage = UsageReported(10, 5, 3, 2, 0.5, "d1", "openai/x")
    first: Turn = [ModelPiece(tool_calls=[ToolCall("c", "f", "{}")], usage=usage)]
    at = rig(first, [ModelPiece(text="o"), ModelPiece(text="k", usage=usage)], f=lambda _: "done")
    await at.run()
    assert at.usage == Usage(20, 10, 6, 4, 1.0, 2, 1)
    assert at.of(UsageReported) == [usage, usage]


async def test_turn_without_usage_does_not_count_the_one_before_again() -> None:
    at = rig(asks(("f", "{}")), [ModelPiece(text="ok")], f=lambda _: "done")
    await at.run()
    assert (at.usage.input_tokens, at.usage.output_tokens, at.usage.model_calls) == (10, 5, 2)


async def test_model_answers_whole_too() -> None:
    at = rig(says("a", "b"))
    from services.execution.gateways.agno.turns import Turns

    agent = Agent("helper", 1, "", {"model": {"model": "g"}})
    job = Job("run-1", agent, ExecuteRequest("helper", "hi"), (), at.usage, NOW)
    model = RouterModel(id="g", turns=Turns(job, MemoryJournal(at.events.append), at.models, Tools([])))
    whole = await model.ainvoke([Message(role="user", content="hi")], Message(role="assistant"))
    assert whole.content == "ab"
    assert whole.response_usage.input_tokens == 10
    assert at.usage.input_tokens == 10


def test_model_is_asynchronous_alone_and_can_be_copied() -> None:
    model = RouterModel(id="g", turns=None)
    with pytest.raises(NotImplementedError):
        model.invoke()
    with pytest.raises(NotImplementedError):
        model.invoke_stream()
    copied = copy.deepcopy(model)
    assert (copied.id, copied is model) == ("g", False)


# How a run ends


async def test_reasoning_is_reported_apart_from_the_answer() -> None:
    at = rig([ModelPiece(reasoning="hm"), *says("yes")])
    assert (await at.run()).output == "yes"
    assert [e.text for e in at.of(ReasoningDelta)] == ["hm"]


async def test_empty_answer_is_an_answer() -> None:
    at = rig([ModelPiece(usage=UsageReported(1, 0))])
    assert await at.run() == Answer("")


@pytest.mark.parametrize(
    "error",
    [
        errors.ResourceExhausted("slow down", reason="UPSTREAM_RATE_LIMITED", retry_after=7.0),
        errors.Unavailable("down", reason="UPSTREAM_UNAVAILABLE"),
        errors.FailedPrecondition("no", reason="CONTENT_POLICY"),
        errors.FailedPrecondition("context_length_exceeded: too many tokens", reason="CONTEXT_WINDOW_EXCEEDED"),
        errors.NotFound("model_group", "gone"),
    ],
)
async def test_error_of_the_model_stays_what_it_is_and_is_not_retried(error: errors.Error) -> None:
    at = rig([error])
    with pytest.raises(type(error)) as caught:
        await at.run()
    assert caught.value is error
    assert len(at.models.calls) == 1


async def test_failure_after_some_text_is_a_failure() -> None:
    at = rig([ModelPiece(text="half"), errors.Unavailable("gone", reason="UPSTREAM_UNAVAILABLE")])
    with pytest.raises(errors.Unavailable):
        await at.run()
    assert [e.text for e in at.of(ContentDelta)] == ["half"]
    assert len(at.models.calls) == at.models.closed == 1


async def test_turn_that_breaks_off_with_router_is_asked_again() -> None:
    at = rig([ModelPiece(text="ha"), errors.Unavailable("lost")], says("whole"))
    assert (await at.run()).output == "whole"
    said = [e for e in at.events if not isinstance(e, UsageReported)]
    assert said == [ContentDelta("ha"), ContentRestarted(1), ContentDelta("whole")]
    assert at.usage.model_calls == 1


async def test_turn_that_breaks_off_each_time_is_a_failure() -> None:
    at = rig([ModelPiece(reasoning="hm"), errors.Unavailable("lost")])
    with pytest.raises(errors.Unavailable):
        await at.run()
    assert len(at.of(ReasoningDelta)) == len(at.models.calls) == 3
    assert len(at.of(ContentRestarted)) == 2


async def test_turn_that_router_begins_again() -> None:
    wrong = [ModelPiece(text="ha"), ModelPiece(tool_calls=[ToolCall("c", "f", "{}")])]
    at = rig([*wrong, ModelPiece(restarted=True), *says("whole")], f=lambda _: "never")
    assert (await at.run()).output == "whole"
    assert [e.kind for e in at.events[:3]] == ["content_delta", "content_restarted", "content_delta"]
    assert at.source.calls == []


# Runs that are taken up


def _taken_up(at: Rig, after: int) -> tuple[Rig, MemoryJournal]:
    """The same run in another process, which finds the first steps in the journal."""
    kept = {number: step for number, step in at.journal.steps.items() if number <= after}
    again = Rig(Models(at.models.turns[1:]), at.source, journal=MemoryJournal(steps=kept))
    return again, again.journal


async def test_run_that_is_taken_up_does_nothing_twice() -> None:
    at = rig(asks(("f", '{"n": 1}'), ("g", "{}")), says("done"), f=lambda given: f"f {given['n']}", g=lambda _: "g")
    answer = await at.run(add_datetime_to_context=True)
    assert [(s.number, s.kind, s.name) for s in at.journal.steps.values()] == [
        (1, "model", "group"),
        (2, "tool", "test/f"),
        (3, "tool", "test/g"),
        (4, "model", "group"),
    ]
    calls = list(at.source.calls)
    again, journal = _taken_up(at, 3)
    assert await again.run(add_datetime_to_context=True) == answer
    assert again.usage == at.usage
    assert again.source.calls == calls
    assert again.models.calls == at.models.calls[1:]
    shape = [(event.kind, getattr(event, "call_id", "")) for event in [*journal.said_again, *again.events]]
    assert shape == [(event.kind, getattr(event, "call_id", "")) for event in at.events]


async def test_tool_that_may_not_be_called_twice_is_in_doubt() -> None:
    at = rig(asks(("f", "{}")), says("done"), f=lambda _: "f")
    await at.run()
    again, journal = _taken_up(at, 2)
    journal.steps[2] = replace(journal.steps[2], result=None, end_time=None)
    with pytest.raises(errors.Aborted) as caught:
        await again.run()
    assert caught.value.reason_code == "TOOL_CALL_IN_DOUBT"
    assert caught.value.metadata == {"tool_id": "test/f", "call_id": "call-1"}
    assert len(again.source.calls) == 1


async def test_run_that_asks_for_something_else_than_before() -> None:
    at = rig(asks(("f", "{}")), says("done"), f=lambda _: "f")
    await at.run()
    again, _ = _taken_up(at, 4)
    with pytest.raises(errors.Aborted) as caught:
        await again.run("another input")
    assert (caught.value.reason_code, caught.value.metadata) == ("JOURNAL_MISMATCH", {"step": "1"})


async def test_tools_are_given_a_key_for_each_call() -> None:
    keys: list[str] = []

    def note(_: Any) -> str:
        keys.append(idempotency_key())
        return "ok"

    at = rig(asks(("f", "{}"), ("f", "{}")), says("done"), f=note)
    await at.run()
    assert keys == ["run-1/2/call-1", "run-1/3/call-2"]
    assert idempotency_key() == ""


async def test_defect_in_the_model_port_tells_nothing() -> None:
    at = rig([RuntimeError("secret")])
    with pytest.raises(errors.Internal) as caught:
        await at.run()
    assert "secret" not in caught.value.message


@pytest.mark.parametrize("before", [[], says("some")[:1]])
async def test_cancelled_run_ends_at_once_and_closes_the_models_stream(before: Turn) -> None:
    at = rig([*before, 30.0])
    task = asyncio.create_task(at.run())
    await asyncio.sleep(0.05)
    started = time.perf_counter()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert time.perf_counter() - started < 1
    assert at.models.closed == len(at.models.calls) == 1


async def test_cancelled_run_ends_its_tools() -> None:
    ended = asyncio.Event()

    async def slow(_: Any) -> str:
        try:
            await asyncio.sleep(30)
        finally:
            ended.set()
        return ""

    at = rig(asks(("f", "{}"), ("f", "{}")), says("never"), f=slow)
    task = asyncio.create_task(at.run())
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended.is_set()
    assert len(at.models.calls) == 1


# Structured output

SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}


async def test_structured_answer_is_sent_whole_and_as_data() -> None:
    at = rig(says('{"n"', ": 4", "2}"))
    assert await at.run(output_schema=SCHEMA) == Answer('{"n": 42}', {"n": 42})
    assert [e.text for e in at.of(ContentDelta)] == ['{"n": 42}']
    assert at.models.calls[0].output_schema == SCHEMA


@pytest.mark.parametrize(
    ("answer", "schema"),
    [
        ("I think 42", SCHEMA),
        ('{"n": "x"}', SCHEMA),
        ("{}", SCHEMA),
        ("[1]", {"minItems": 1}),
        ("", SCHEMA),
        ('{"a":' * 60 + "1" + "}" * 60, {}),
        ("{}", {"$ref": "http://127.0.0.1:9/schema"}),
        ("{}", {"$ref": "file:///etc/hostname"}),
        ("{}", {"$ref": "#/$defs/missing"}),
    ],
)
async def test_answer_that_does_not_fit_is_a_failure(answer: str, schema: dict[str, Any]) -> None:
    at = rig(says(answer))
    with pytest.raises(Unfit) as caught:
        await at.run(output_schema=schema)
    assert caught.value.error().reason_code == "OUTPUT_INVALID"
    assert caught.value.text == answer
    assert not at.of(ContentDelta)
    assert len(at.models.calls) == (1 if "$ref" in schema else 2)


async def test_answer_that_does_not_fit_is_asked_for_once_more() -> None:
    at = rig(asks(("f", "{}")), says("About 42"), says('```json\n{"n": 42}\n```'), f=lambda _: "done")
    answer = await at.run(output_schema=SCHEMA)
    assert answer.structured_output == {"n": 42}
    assert answer.output == '```json\n{"n": 42}\n```'
    assert [e.text for e in at.of(ContentDelta)] == [answer.output]
    asked = at.models.calls[2]
    assert [m["role"] for m in asked.messages] == ["user", "assistant", "tool", "assistant", "user"]
    assert asked.messages[3]["content"] == "About 42"
    assert "is not a JSON object" in asked.messages[4]["content"]
    assert (asked.tools, asked.tool_choice, asked.output_schema) == ([], "", SCHEMA)


async def test_schema_of_the_request_goes_before_that_of_the_agent() -> None:
    at = rig(says('{"n": 1}'))
    request = ExecuteRequest("helper", "hi", output_schema=SCHEMA)
    job = Job("run-1", Agent("helper", 3, "", {"output_schema": {"required": ["m"]}}), request, (), Usage(), NOW)
    answer = await AgnoRunner(at.models, Tools([])).run(job, at.journal)
    assert answer.structured_output == {"n": 1}
    assert at.models.calls[0].output_schema == SCHEMA


# Conversations


def talking(text: str = "hi", *, own: OwnTools | None = None, **job: Any) -> Callable[[Rig], Any]:
    """Runs a job of a session."""
    given = {"session_id": "talk", "user_id": "ann", **job.pop("request", {})}
    spec = {"model": {"model": "group"}, **job.pop("spec", {})}
    bound = own_tools(spec, given["user_id"])

    def run(at: Rig) -> Any:
        made = Job(
            "run-1", Agent("helper", 3, "", spec), ExecuteRequest("helper", text, **given), bound, at.usage, NOW, **job
        )
        return AgnoRunner(at.models, Tools([])).run(made, at.journal, own)

    return run


async def test_history_goes_between_the_instructions_and_the_input() -> None:
    call = {"id": "call-1", "type": "function", "function": {"name": "f", "arguments": "{ }"}}
    history = (
        {"role": "user", "content": "before", "tool_calls": [], "media": [{"url": "https://example.com/a.png"}]},
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "content": "done", "tool_calls": [], "tool_call_id": "call-1"},
        {"role": "assistant", "content": "{x}", "tool_calls": []},
    )
    at = rig(asks((STATE_NAME, '{"set": {"a": 1}}')), says("ok"))
    spec = {"instructions": ["Be brief."], "session": {"agentic_state": True}}
    media = ({"url": "https://example.com/b.png", "mime_type": "image/png"},)
    answer = await talking(request={"media": media}, spec=spec, background=Background(history))(at)
    first, second = at.models.calls
    assert [m["role"] for m in first.messages] == ["system", "user", "assistant", "tool", "assistant", "user"]
    assert tuple(first.messages[1:5]) == history
    assert first.messages[5]["media"] == list(media)
    assert second.messages[:6] == first.messages
    renamed = second.messages[6]["tool_calls"][0]["id"]
    assert renamed not in ("", "call-1")
    kept = answer.kept.messages
    assert [(m["role"], m["content"]) for m in kept] == [
        ("user", "hi"),
        ("assistant", ""),
        ("tool", '{"a":1}'),
        ("assistant", "ok"),
    ]
    assert kept[0]["media"] == list(media)
    assert (kept[1]["tool_calls"][0]["id"], kept[2]["tool_call_id"]) == (renamed, renamed)


async def test_what_the_agent_wants_to_know_is_in_its_instructions() -> None:
    pin = Pin(summary="We spoke of tea.", state={"cups": 2}, memories=(Memory("m1", "likes tea"),))
    spec = {
        "memory": {"add_to_context": True},
        "session": {"add_state_to_context": True, "add_summary_to_context": True},
    }
    at = rig(says("ok"))
    await talking(spec=spec, background=Background(pin=pin))(at)
    for part in ("likes tea", "We spoke of tea.", '{"cups":2}'):
        assert part in at.system()


async def test_summary_and_memories_are_asked_for_after_the_answer() -> None:
    learnt = '{"remember": ["drinks green tea", "likes tea"], "forget": ["m1", "m9"]}'
    at = rig(says("Enjoy."), says(" Tea was offered. "), says(learnt))
    pin = Pin(summary="Earlier.", memories=(Memory("m1", "drinks black tea"), Memory("m2", "likes tea")))
    spec = {"memory": {"update_on_run": True}, "session": {"summaries": True}}
    answer = await talking("Green tea!", spec=spec, background=Background(pin=pin))(at)
    assert answer.output == "Enjoy."
    assert answer.kept.summary == "Tea was offered."
    assert (answer.kept.learnt, answer.kept.forgotten) == (("drinks green tea",), ("m1",))
    assert [e.text for e in at.of(ContentDelta)] == ["Enjoy."]
    assert len(at.of(UsageReported)) == at.usage.model_calls == 3
    _, summary, memories = at.models.calls
    assert "Earlier." in summary.messages[1]["content"]
    assert "user: Green tea!" in summary.messages[1]["content"]
    assert "m2: likes tea" in memories.messages[1]["content"]
    assert memories.output_schema is not None


@pytest.mark.parametrize(
    "second",
    [
        [errors.Unavailable("lost", reason="UPSTREAM_UNAVAILABLE")],
        says(""),
        says("no JSON"),
        says('{"remember": "tea"}'),
        says('{"remember": [1, {"a": 2}, "  "], "forget": null}'),
    ],
)
async def test_what_goes_wrong_after_the_answer_makes_nothing_fail(second: Turn) -> None:
    at = rig(says("Enjoy."), second)
    answer = await talking(spec={"memory": {"update_on_run": True}})(at)
    assert (answer.output, answer.kept.learnt, answer.kept.forgotten) == ("Enjoy.", (), ())


async def test_questions_to_go_on_with_are_proposed() -> None:
    at = rig(says("Enjoy."), says('{"questions": ["More tea?", 1, "Cake?", "The bill?"]}'))
    answer = await talking("Green tea!", spec={"num_followups": 2})(at)
    assert (answer.output, answer.followups) == ("Enjoy.", ("More tea?", "Cake?"))
    assert "user: Green tea!" in at.models.calls[1].messages[1]["content"]
    assert at.models.calls[1].output_schema is not None
    at = rig(says("Enjoy."), says("no JSON"))
    assert (await talking(spec={"num_followups": 2})(at)).followups == ()


async def test_limit_of_model_calls_holds_for_what_comes_after_the_answer() -> None:
    at = rig(says("Enjoy."))
    answer = await talking(spec={"session": {"summaries": True}, "max_model_calls": 1})(at)
    assert (answer.output, answer.kept.summary, len(at.models.calls)) == ("Enjoy.", None, 1)


async def test_nothing_is_kept_or_learnt_of_nobody() -> None:
    at = rig(says("ok"))
    spec = {"memory": {"update_on_run": True, "agentic": True}, "session": {"summaries": True}}
    answer = await talking(request={"session_id": "", "user_id": ""}, spec=spec)(at)
    assert answer.kept == Kept()
    assert len(at.models.calls) == 1
    assert at.models.calls[0].tools == []


async def test_own_tools_change_state_and_memories() -> None:
    at = rig(
        asks(
            (STATE_NAME, '{"set": {"a": 1, "b": 2}}'),
            (STATE_NAME, '{"remove": ["a"]}'),
            (STATE_NAME, '{"remove": ["nothing"]}'),
            (STATE_NAME, '{"set": 1}'),
            ("update_user_memory", '{"remember": ["likes tea", "likes tea"], "forget": ["m1", "m9"]}'),
        ),
        says("ok"),
    )
    pin = Pin(state={"old": True}, state_version=4, memories=(Memory("m1", "hates tea"),))
    own = OwnTools(pin)
    spec = {"memory": {"agentic": True}, "session": {"agentic_state": True}}
    answer = await talking(spec=spec, own=own, background=Background(pin=pin))(at)
    assert [(e.state, e.version) for e in at.of(StateChanged)] == [
        ({"old": True, "a": 1, "b": 2}, 5),
        ({"old": True, "b": 2}, 6),
    ]
    assert [e.is_error for e in at.of(ToolCallCompleted)].count(True) == 1
    assert (answer.kept.learnt, answer.kept.forgotten) == (("likes tea",), ("m1",))
    assert "m1: hates tea" in at.system()


async def test_state_that_grows_too_large_is_refused() -> None:
    at = rig(asks((STATE_NAME, orjson.dumps({"set": {"a": "x" * 2**20}}).decode())), says("ok"))
    await talking(spec={"session": {"agentic_state": True}})(at)
    assert [e.is_error for e in at.of(ToolCallCompleted)] == [True]
    assert not at.of(StateChanged)


async def test_citations_are_reported_with_the_turn_that_has_them() -> None:
    source = {"url": "https://example.com", "title": "Example", "quote": "so"}
    at = rig([ModelPiece(text="so", citations=[source]), ModelPiece(citations=[source]), *says()])
    await at.run()
    assert at.of(CitationsReported) == [CitationsReported([source, source])]


async def test_warm_up_says_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    await AgnoRunner(Models([]), Tools([])).warm_up()
    assert capfd.readouterr() == ("", "")
