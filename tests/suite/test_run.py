"""A run through all four services: LiteLLM's real HTTP path, one key, one trace."""

from __future__ import annotations

import base64
import json
import time
import urllib.parse
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import jwt
import pytest
from dynamicagents.execution.v1 import execution_service_pb2, execution_service_pb2_grpc
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from tests import four_services, harness, openai_server
from tests.openai_server import OpenAIServer, Reply

CANARY = 'sk-canary-"7f3a/+&19'
REFERENCE = "secret:openai:api_key"


@pytest.fixture
async def upstream() -> AsyncIterator[OpenAIServer]:
    async with openai_server.serving() as server:
        yield server


async def test_the_provider_sees_the_key_that_only_secrets_knew(upstream: OpenAIServer, tmp_path: Path) -> None:
    async with four_services.serving(tmp_path / "data") as suite:
        await suite.keep_key("sk-right")
        await suite.add_deployment("gpt", upstream.url, REFERENCE)
        await suite.create_agent("helper", "gpt", instructions=["Be brief."])
        events = await suite.run("helper", "Hello?")
    assert upstream.keys == ["Bearer sk-right"]
    messages = upstream.asked[0].body["messages"]
    assert messages[-1] == {"role": "user", "content": "Hello?"}
    assert "Be brief." in messages[0]["content"]
    assert "".join(event.content_delta.text for event in events) == "Hello from upstream"
    assert events[-1].execution_completed.output == "Hello from upstream"
    assert events[-1].execution_completed.usage.total_tokens == 18
    reported = [event.usage_reported for event in events if event.HasField("usage_reported")]
    assert [(r.deployment_id, r.model, r.offline) for r in reported] == [("gpt-1", "openai/scripted", False)]


async def test_tool_calls_through_the_real_path(upstream: OpenAIServer, tmp_path: Path) -> None:
    upstream.reply = Reply(words=(), tool_calls=[("call-9", "calculator", '{"expression": "6*7"}')])
    async with four_services.serving(tmp_path / "data") as suite:
        await suite.keep_key("sk-right")
        await suite.add_deployment("gpt", upstream.url, REFERENCE)
        await suite.create_agent("helper", "gpt", tools=[{"tool_id": "builtin/calculator"}], max_model_calls=2)
        events = await suite.run("helper", "6*7?")
    completed = [event.tool_call_completed for event in events if event.HasField("tool_call_completed")]
    assert next((call.call_id, call.output, call.is_error) for call in completed) == ("call-9", "42", False)
    second = upstream.asked[1].body["messages"]
    assert second[-2]["tool_calls"][0]["function"] == {"name": "calculator", "arguments": '{"expression": "6*7"}'}
    assert (second[-1]["role"], second[-1]["tool_call_id"], second[-1]["content"]) == ("tool", "call-9", "42")
    assert [tool["function"]["name"] for tool in upstream.asked[0].body["tools"]] == ["calculator"]
    error = harness.detail_of_event(events[-1])
    assert error.reason == "MODEL_CALL_LIMIT"


async def test_one_trace(upstream: OpenAIServer, tmp_path: Path) -> None:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    async with four_services.serving(tmp_path / "data", provider) as suite:
        await suite.keep_key("sk-right")
        await suite.add_deployment("gpt", upstream.url, REFERENCE)
        await suite.create_agent("helper", "gpt")
        exporter.clear()
        await suite.run("helper", "Hello?")
    spans = exporter.get_finished_spans()
    served = {
        span.name.removeprefix("/"): span.context.trace_id
        for span in spans
        if span.kind.name == "SERVER" and span.context and "Watch" not in span.name
    }
    assert set(served) == {
        "dynamicagents.execution.v1.ExecutionService/ExecuteStream",
        "dynamicagents.registry.v1.AgentService/GetAgent",
        "dynamicagents.router.v1.RouterService/ChatStream",
        "dynamicagents.secrets.v1.SecretsService/ResolveReferences",
    }
    assert len(set(served.values())) == 1
    assert "sk-right" not in " ".join(span.to_json() for span in spans)


@pytest.mark.parametrize("reply", [Reply(), Reply(status=401), Reply(status=500), Reply(cut_after=1)])
async def test_the_key_appears_nowhere(
    upstream: OpenAIServer, tmp_path: Path, reply: Reply, capfd: pytest.CaptureFixture[str]
) -> None:
    upstream.reply = reply
    async with four_services.serving(tmp_path / "data", log_level="debug") as suite:
        await suite.keep_key(CANARY)
        await suite.add_deployment("gpt", upstream.url, REFERENCE)
        await suite.create_agent("helper", "gpt")
        events = await suite.run("helper", "Hello?")
    assert upstream.keys[0] == f"Bearer {CANARY}"
    out, err = capfd.readouterr()
    seen = [out.encode(), err.encode(), *(event.SerializeToString() for event in events)]
    seen += [path.read_bytes() for path in (tmp_path / "data").rglob("*") if path.is_file()]
    forms = [CANARY, base64.b64encode(CANARY.encode()).decode(), urllib.parse.quote(CANARY), json.dumps(CANARY)[1:-1]]
    assert not [form for form in forms for text in seen if form.encode() in text]


async def test_an_unknown_model_group_fails_the_run_alone(upstream: OpenAIServer, tmp_path: Path) -> None:
    async with four_services.serving(tmp_path / "data") as suite:
        await suite.create_agent("lost", "no-such-group")
        await suite.create_agent("helper", "offline")
        events = await suite.run("lost", "Hello?")
        error = harness.detail_of_event(events[-1])
        assert (error.reason, error.metadata["model_group"]) == ("MODEL_GROUP_UNKNOWN", "no-such-group")
        assert (await suite.run("helper", "Hello?"))[-1].HasField("execution_completed")


async def test_the_callers_deadline_ends_the_providers_call(upstream: OpenAIServer, tmp_path: Path) -> None:
    upstream.reply = Reply(endless=True, word_delay=0.05)
    async with four_services.serving(tmp_path / "data") as suite:
        await suite.keep_key("sk-right")
        await suite.add_deployment("gpt", upstream.url, REFERENCE)
        await suite.create_agent("helper", "gpt")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await suite.run("helper", "Hello?", timeout=1.5)
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        await upstream.disconnected.wait()


async def test_tenants_with_tokens(upstream: OpenAIServer, tmp_path: Path) -> None:
    secret = "s" * 40

    def token(tenant: str, scope: str, subject: str = "crm") -> str:
        claims = {"sub": subject, "tenant": tenant, "scope": scope, "exp": time.time() + 600}
        return jwt.encode(claims, secret, algorithm="HS256")

    settings = {"jwt_secret": secret, "service_token": token("system", "service", "router")}
    async with four_services.serving(tmp_path / "data", **settings) as suite:
        suite.metadata = (("authorization", f"Bearer {token('acme', 'secrets.write')}"),)
        await suite.keep_key("sk-acme")
        await suite.add_deployment("gpt", upstream.url, REFERENCE)
        await suite.create_agent("helper", "gpt")
        events = await suite.run("helper", "Hello?")
        assert events[-1].HasField("execution_completed"), events[-1]
        assert upstream.keys == ["Bearer sk-acme"]

        suite.metadata = (("authorization", f"Bearer {token('rival', '')}"),)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await suite.run("helper", "Hello?")
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND
        stub = execution_service_pb2_grpc.ExecutionServiceStub(suite.execution)
        foreign = execution_service_pb2.GetExecutionRequest(execution_id=events[0].execution_id)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.GetExecution(foreign, metadata=suite.metadata)
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND
        await suite.create_agent("helper", "gpt")
        error = harness.detail_of_event((await suite.run("helper", "Hello?"))[-1])
        assert error.reason == "MODEL_GROUP_UNKNOWN"
