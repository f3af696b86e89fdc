"""A key that changes while the Router uses it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from dynamicagents.secrets.v1 import secret_pb2, secrets_service_pb2, secrets_service_pb2_grpc
from google.protobuf.field_mask_pb2 import FieldMask

from libs import errors
from services.router.model import Credentials, Deployment, routing_table
from services.router.service import Router
from tests import a8n, four_services, openai_server
from tests.unit.test_router_attempts import ANSWER, CALL, CALLER, REFUSED, Fake


async def rotate(services: four_services.FourServices, value: str) -> None:
    stub: Any = secrets_service_pb2_grpc.SecretsServiceStub(services.secrets)
    listed = await stub.ListSecrets(secrets_service_pb2.ListSecretsRequest(provider="openai"))
    request = secrets_service_pb2.UpdateSecretRequest(
        secret=secret_pb2.Secret(secret_id=listed.secrets[0].secret_id),
        values={"api_key": value},
        update_mask=FieldMask(paths=["values"]),
    )
    await stub.UpdateSecret(request)


async def test_new_key_is_used_at_once_and_the_call_in_flight_ends_well(tmp_path: Path) -> None:
    async with openai_server.serving() as provider, four_services.serving(tmp_path / "data") as services:
        await services.keep_key("sk-one")
        await services.add_deployment("gpt", provider.url, "secret:openai:api_key")
        await services.create_agent("helper", "gpt")
        provider.reply = openai_server.Reply(words=["one "] * 10, word_delay=0.05)
        running = asyncio.create_task(services.run("helper", "Hello"))
        await provider.called.wait()
        await rotate(services, "sk-two")
        assert (await services.run("helper", "Hello"))[-1].HasField("execution_completed")
        assert (await running)[-1].HasField("execution_completed")
        assert provider.keys == ["Bearer sk-one", "Bearer sk-two"]


async def test_refused_key_is_refreshed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with AsyncExitStack() as stack:
        identity = await stack.enter_async_context(a8n.serving())
        monkeypatch.setenv("DYNAMIC_AGENTS_SECRETS_A8N_URL", identity.url)
        monkeypatch.setenv("DYNAMIC_AGENTS_SECRETS_A8N_TOKEN", a8n.TOKEN)
        provider = await stack.enter_async_context(openai_server.serving())
        services = await stack.enter_async_context(four_services.serving(tmp_path / "data"))
        identity.add("one", "openai", {"api_key": "sk-one"}, version=1)
        await services.add_deployment("gpt", provider.url, "secret:openai:api_key")
        await services.create_agent("helper", "gpt")
        assert (await services.run("helper", "Hello"))[-1].HasField("execution_completed")
        identity.rotate("one", {"api_key": "sk-two"}, version=2)

        provider.reply.status = 401
        assert (await services.run("helper", "Hello"))[-1].HasField("execution_failed")
        assert provider.keys == ["Bearer sk-one", "Bearer sk-one", "Bearer sk-two"]
        provider.reply.status = 200
        assert (await services.run("helper", "Hello"))[-1].HasField("execution_completed")
        assert provider.keys[-1] == "Bearer sk-two"


class Renewing(Fake):
    """A provider that takes the key `good` alone, and a keeper whose second key is given."""

    def __init__(self, second: str) -> None:
        deployment = Deployment("keyed", "g", "openai/x", key_reference="ref")
        super().__init__(routing_table([deployment], num_retries=2, timeout=5.0), {})
        self.second, self.refreshes = second, 0

    async def resolve(self, references: Sequence[str], *, refresh: bool = False) -> Sequence[str]:
        self.refreshes += refresh
        return [self.second if refresh else "first" for _ in references]

    async def chat(self, deployment: Any, credentials: Credentials, call: Any) -> Any:
        self._script["keyed"] = ANSWER if credentials.api_key == "good" else [REFUSED]
        async for chunk in super().chat(deployment, credentials, call):
            yield chunk


async def test_another_key_is_tried_once() -> None:
    ports = Renewing("good")
    whole = await Router(ports, ports, ports, offline=True).chat(CALLER, CALL)
    assert (whole.text, ports.refreshes) == ("hello", 1)
    assert [key for _, key in ports.asked] == ["first", "good"]


@pytest.mark.parametrize(("second", "asked"), [("first", 1), ("bad", 2)])
async def test_there_is_one_retry_and_none_with_the_same_key(second: str, asked: int) -> None:
    ports = Renewing(second)
    with pytest.raises(errors.Internal):
        await Router(ports, ports, ports, offline=True).chat(CALLER, CALL)
    assert (ports.refreshes, len(ports.asked)) == (1, asked)
