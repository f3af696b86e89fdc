from __future__ import annotations

import base64
import os
import sqlite3
import time
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from typing import TYPE_CHECKING, Any

import grpc
import jwt
import pytest
from dynamicagents.secrets.v1 import secret_pb2, secrets_service_pb2, secrets_service_pb2_grpc
from google.rpc import error_details_pb2

from libs.config import StartError
from services.secrets.app import app
from services.secrets.config import SecretsSettings
from tests import harness

if TYPE_CHECKING:
    from dynamicagents.secrets.v1.secrets_service_pb2_grpc import SecretsServiceAsyncStub as Stub

JWT_SECRET = "of-the-tests-and-long-enough-for-hs256"
MALFORMED = secrets_service_pb2.RESOLUTION_FAILURE_MALFORMED
NOT_FOUND = secrets_service_pb2.RESOLUTION_FAILURE_NOT_FOUND
UNAVAILABLE = secrets_service_pb2.RESOLUTION_FAILURE_UNAVAILABLE
DENIED = secrets_service_pb2.RESOLUTION_FAILURE_DENIED


@pytest.fixture
async def secrets(make_settings: Callable[..., Any]) -> AsyncIterator[Stub]:
    async with harness.running(app, make_settings(SecretsSettings)) as (_, channel):
        yield secrets_service_pb2_grpc.SecretsServiceStub(channel)


@pytest.fixture
async def guarded(make_settings: Callable[..., Any]) -> AsyncIterator[Stub]:
    async with harness.running(app, make_settings(SecretsSettings, jwt_secret=JWT_SECRET)) as (_, channel):
        yield secrets_service_pb2_grpc.SecretsServiceStub(channel)


def bearer(tenant: str, scopes: str, subject: str = "tester") -> tuple[tuple[str, str], ...]:
    claims = {"sub": subject, "tenant": tenant, "scope": scopes, "exp": time.time() + 60}
    return (("authorization", f"Bearer {jwt.encode(claims, JWT_SECRET)}"),)


def router(tenant: str, scopes: str = "service") -> tuple[tuple[str, str], ...]:
    acting = (("dynamic-agents-tenant", tenant), ("dynamic-agents-subject", "tester"))
    return bearer("suite", scopes, "router") + acting


def asked(provider: str = "openai", request_id: str = "", **values: str) -> secrets_service_pb2.CreateSecretRequest:
    return secrets_service_pb2.CreateSecretRequest(
        secret=secret_pb2.Secret(provider=provider, display_name="Key", labels={"team": "crm"}),
        values=values or {"api_key": "sk-1"},
        request_id=request_id,
    )


async def create(secrets: Stub, provider: str = "openai", *, metadata: Any = None, **values: str) -> secret_pb2.Secret:
    return (await secrets.CreateSecret(asked(provider, **values), metadata=metadata)).secret


async def resolve(secrets: Stub, *references: str, metadata: Any = None) -> list[Any]:
    request = secrets_service_pb2.ResolveReferencesRequest(references=references)
    results = (await secrets.ResolveReferences(request, metadata=metadata)).results
    assert [result.reference for result in results] == list(references)
    return [getattr(result, result.WhichOneof("outcome") or "") for result in results]


async def values(secrets: Stub, secret_id: str, metadata: Any = None) -> dict[str, str]:
    request = secrets_service_pb2.GetSecretValuesRequest(secret_id=secret_id)
    return dict((await secrets.GetSecretValues(request, metadata=metadata)).values)


async def test_kept_values_come_back(secrets: Stub) -> None:
    made = await create(secrets, "azure_openai", api_key="sk-1", endpoint="https://x.example")
    assert (made.provider, made.version, list(made.fields)) == ("azure_openai", 1, ["api_key", "endpoint"])
    assert made.labels == {"team": "crm"}
    assert await values(secrets, made.secret_id) == {"api_key": "sk-1", "endpoint": "https://x.example"}


async def test_listing_pages(secrets: Stub) -> None:
    made = {(await create(secrets)).secret_id for _ in range(3)}
    await create(secrets, "groq")
    request = secrets_service_pb2.ListSecretsRequest(page_size=2, provider="openai")
    first = await secrets.ListSecrets(request)
    request.page_token = first.next_page_token
    rest = await secrets.ListSecrets(request)
    assert {secret.secret_id for secret in (*first.secrets, *rest.secrets)} == made
    assert not rest.next_page_token
    request.provider = "groq"
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await secrets.ListSecrets(request)
    assert harness.fields_of(caught.value) == ["page_token"]


async def test_references_are_answered_one_by_one(secrets: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    await create(secrets, api_key="sk-old", org_id="org")
    await create(secrets, api_key="sk-new")
    monkeypatch.setenv("GROQ_API_KEY", "gsk-1")
    monkeypatch.setenv("DYNAMIC_AGENTS_JWT_SECRET", "of the suite")
    monkeypatch.setenv("A8N_TOKEN", "of the suite")
    assert await resolve(
        secrets,
        "secret:openai:api_key",
        "secret:openai:org_id",
        "sk-in-the-wrong-place",
        "secret:openai:absent",
        "secret:groq:api_key",
        "secret:openai:api_key",
        "os.environ/GROQ_API_KEY",
        "os.environ/ABSENT_API_KEY",
        "os.environ/DYNAMIC_AGENTS_JWT_SECRET",
        "os.environ/A8N_TOKEN",
    ) == ["sk-new", "org", MALFORMED, NOT_FOUND, NOT_FOUND, "sk-new", "gsk-1", NOT_FOUND, DENIED, DENIED]


async def test_environment_names_are_limited(
    make_settings: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GROQ_API_KEY", "gsk-1")
    settings = make_settings(SecretsSettings, environment_names=["GROQ_*"])
    async with harness.running(app, settings) as (_, channel):
        secrets = secrets_service_pb2_grpc.SecretsServiceStub(channel)
        assert await resolve(secrets, "os.environ/GROQ_API_KEY", "os.environ/PATH") == ["gsk-1", DENIED]


async def test_damaged_secret_fails_alone(make_settings: Callable[..., Any]) -> None:
    settings = make_settings(SecretsSettings)
    async with harness.running(app, settings) as (_, channel):
        secrets = secrets_service_pb2_grpc.SecretsServiceStub(channel)
        await create(secrets, api_key="sk-old", org_id="org")
        damaged = await create(secrets, api_key="sk-new")
        with closing(sqlite3.connect(settings.data_dir / "secrets.db")) as database, database:
            database.execute("UPDATE versions SET ciphertext = x'00' WHERE secret_id = ?", [damaged.secret_id])
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await values(secrets, damaged.secret_id)
        assert caught.value.code() is grpc.StatusCode.INTERNAL
        info = harness.detail(harness.status_of(caught.value), error_details_pb2.ErrorInfo)
        assert info.metadata == {"secret_id": damaged.secret_id}
        assert await resolve(secrets, "secret:openai:api_key", "secret:openai:org_id") == [UNAVAILABLE, "org"]


async def test_unknown_secret(secrets: Stub) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await values(secrets, "absent")
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    assert harness.reason_of(caught.value) == "RESOURCE_NOT_FOUND"


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (asked("Open AI"), "secret.provider"),
        (asked(api_key=""), "values['api_key']"),
        (asked(**{"api key": "sk-1"}), "values['api key']"),
        (secrets_service_pb2.CreateSecretRequest(values={"api_key": "sk-1"}), "secret"),
        (secrets_service_pb2.CreateSecretRequest(secret=secret_pb2.Secret(provider="openai")), "values"),
    ],
)
async def test_bad_secret(secrets: Stub, request_: secrets_service_pb2.CreateSecretRequest, field: str) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await secrets.CreateSecret(request_)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert harness.fields_of(caught.value) == [field]


async def test_repeated_request(secrets: Stub) -> None:
    first = await secrets.CreateSecret(asked(request_id="once"))
    assert await secrets.CreateSecret(asked(request_id="once")) == first
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await secrets.CreateSecret(asked(request_id="once", api_key="sk-2"))
    assert harness.reason_of(caught.value) == "REQUEST_ID_REUSED"


async def test_tenants_are_apart(guarded: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GROQ_API_KEY", "gsk-1")
    acme, other = router("acme"), router("other")
    made = await create(guarded, metadata=acme)
    assert await values(guarded, made.secret_id, acme) == {"api_key": "sk-1"}
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await values(guarded, made.secret_id, other)
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    assert not (await guarded.ListSecrets(secrets_service_pb2.ListSecretsRequest(), metadata=other)).secrets
    references = ("secret:openai:api_key", "os.environ/GROQ_API_KEY")
    assert await resolve(guarded, *references, metadata=acme) == ["sk-1", DENIED]
    assert await resolve(guarded, *references, metadata=other) == [NOT_FOUND, DENIED]
    assert await resolve(guarded, *references, metadata=router("default")) == [NOT_FOUND, "gsk-1"]


@pytest.mark.parametrize(
    ("method", "scope"),
    [("GetSecretValues", "secrets.values"), ("ResolveReferences", "secrets.values"), ("CreateSecret", "secrets.write")],
)
async def test_scopes(guarded: Stub, method: str, scope: str) -> None:
    requests: dict[str, Any] = {
        "GetSecretValues": secrets_service_pb2.GetSecretValuesRequest(secret_id="absent"),
        "ResolveReferences": secrets_service_pb2.ResolveReferencesRequest(references=["secret:openai:api_key"]),
        "CreateSecret": asked(),
    }
    others = " ".join({"secrets.read", "secrets.values", "secrets.write"} - {scope})
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await getattr(guarded, method)(requests[method], metadata=bearer("acme", others))
    assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED
    assert harness.reason_of(caught.value) == "SCOPE_MISSING"


async def test_another_vault_key_stops_the_start(make_settings: Callable[..., Any]) -> None:
    first, second = (base64.b64encode(os.urandom(32)).decode() for _ in range(2))
    async with harness.running(app, make_settings(SecretsSettings, vault_key=first)) as (_, channel):
        made = await create(secrets_service_pb2_grpc.SecretsServiceStub(channel))
    for settings in (make_settings(SecretsSettings, vault_key=second), make_settings(SecretsSettings)):
        with pytest.raises(StartError) as caught:
            async with app(settings, None):
                pass
        assert "\n" not in str(caught.value)
    async with harness.running(app, make_settings(SecretsSettings, vault_key=first)) as (_, channel):
        stub = secrets_service_pb2_grpc.SecretsServiceStub(channel)
        assert await values(stub, made.secret_id) == {"api_key": "sk-1"}


async def test_loose_key_file_stops_the_start(make_settings: Callable[..., Any]) -> None:
    settings = make_settings(SecretsSettings)
    async with app(settings, None):
        pass
    (settings.data_dir / "vault.key").chmod(0o644)
    with pytest.raises(StartError, match="0644"):
        async with app(settings, None):
            pass
