from __future__ import annotations

import base64
import time
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from dynamicagents.secrets.v1 import secret_pb2, secrets_service_pb2, secrets_service_pb2_grpc
from google.rpc import error_details_pb2

from services.secrets.app import app
from services.secrets.config import SecretsSettings
from tests import a8n, harness
from tests.a8n import A8nServer, Fault

if TYPE_CHECKING:
    from dynamicagents.secrets.v1.secrets_service_pb2_grpc import SecretsServiceAsyncStub as Stub

NOT_FOUND = secrets_service_pb2.RESOLUTION_FAILURE_NOT_FOUND
UNAVAILABLE = secrets_service_pb2.RESOLUTION_FAILURE_UNAVAILABLE
CANARY = "sk-canary"


@pytest.fixture
async def identity() -> AsyncIterator[A8nServer]:
    async with a8n.serving() as server:
        yield server


@pytest.fixture
def settings(make_settings: Callable[..., Any], identity: A8nServer) -> SecretsSettings:
    made: SecretsSettings = make_settings(
        SecretsSettings, a8n_url=identity.url, a8n_token=a8n.TOKEN, a8n_retries=2, a8n_timeout=1.0
    )
    return made


@pytest.fixture
async def secrets(settings: SecretsSettings) -> AsyncIterator[Stub]:
    async with harness.running(app, settings) as (_, channel):
        yield secrets_service_pb2_grpc.SecretsServiceStub(channel)


async def resolve(secrets: Stub, *references: str) -> list[Any]:
    request = secrets_service_pb2.ResolveReferencesRequest(references=references)
    results = (await secrets.ResolveReferences(request)).results
    return [getattr(result, result.WhichOneof("outcome") or "") for result in results]


async def values(secrets: Stub, secret_id: str) -> dict[str, str]:
    request = secrets_service_pb2.GetSecretValuesRequest(secret_id=secret_id)
    return dict((await secrets.GetSecretValues(request)).values)


async def create(secrets: Stub, request_id: str = "") -> secret_pb2.Secret:
    secret = secret_pb2.Secret(provider="openai", display_name="Key", labels={"team": "crm"})
    request = secrets_service_pb2.CreateSecretRequest(secret=secret, values={"api_key": CANARY}, request_id=request_id)
    return (await secrets.CreateSecret(request)).secret


async def refusal(call: Any) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value


@pytest.mark.parametrize("bare", [False, True])
async def test_reads_with_the_token(
    secrets: Stub, identity: A8nServer, settings: SecretsSettings, *, bare: bool
) -> None:
    identity.bare = bare
    identity.add("one", "openai", {"api_key": CANARY, "org_id": "org"}, owner={"unexpected": True})
    references = ("secret:openai:api_key", "secret:openai:org_id", "secret:openai:absent", "secret:groq:api_key")
    assert await resolve(secrets, *references) == [CANARY, "org", NOT_FOUND, NOT_FOUND]
    assert await values(secrets, "one") == {"api_key": CANARY, "org_id": "org"}
    assert {headers["authorization"] for headers in identity.headers} == {f"Bearer {a8n.TOKEN}"}
    assert not list(settings.data_dir.rglob("*"))


async def test_one_list_and_one_values_call_for_all_fields(secrets: Stub, identity: A8nServer) -> None:
    identity.add("one", "openai", {"api_key": CANARY, "org_id": "org"})
    await resolve(secrets, "secret:openai:api_key", "secret:openai:org_id", "secret:openai:api_key")
    assert identity.calls == ["GET /api/v1/secrets?provider=openai", "GET /api/v1/secrets/one/values"]


async def test_newest_in_use_wins(secrets: Stub, identity: A8nServer) -> None:
    identity.add(
        "new", "openai", {"api_key": "sk-new"}, created_at="2026-01-01T00:00:00Z", updated_at="2026-06-01T00:00:00Z"
    )
    identity.add("old", "openai", {"api_key": "sk-old"}, created_at="2026-03-01T00:00:00")
    identity.add("gone", "openai", {"api_key": "sk-gone"}, updated_at="2026-09-01T00:00:00Z", status="Revoked")
    identity.add("off", "openai", {"api_key": "sk-off"}, updated_at="2026-09-01T00:00:00Z", status="disabled")
    identity.add("undated", "openai", {"api_key": "sk-undated"}, updated_at="long ago")
    assert await resolve(secrets, "secret:openai:api_key") == ["sk-new"]
    listed = await secrets.ListSecrets(secrets_service_pb2.ListSecretsRequest())
    assert [secret.secret_id for secret in listed.secrets] == ["new", "old", "undated"]


async def test_newest_that_has_the_field(secrets: Stub, identity: A8nServer) -> None:
    identity.add("old", "openai", {"org_id": "org"}, updated_at="2026-01-01T00:00:00Z")
    identity.add("new", "openai", {"api_key": CANARY}, updated_at="2026-06-01T00:00:00Z", fields={"api_key": "string"})
    assert await resolve(secrets, "secret:openai:org_id") == ["org"]
    assert "GET /api/v1/secrets/new/values" not in identity.calls


async def test_secret_that_vanishes_or_fails(secrets: Stub, identity: A8nServer) -> None:
    identity.add("old", "openai", {"api_key": "sk-old"}, updated_at="2026-01-01T00:00:00Z")
    identity.add("new", "openai", {"api_key": "sk-new"}, updated_at="2026-06-01T00:00:00Z")
    identity.fails["new"] = Fault(status=404)
    assert await resolve(secrets, "secret:openai:api_key") == ["sk-old"]
    identity.fails["new"] = Fault(status=500)
    assert await resolve(secrets, "secret:openai:api_key") == [UNAVAILABLE]


async def test_no_list(secrets: Stub, identity: A8nServer) -> None:
    identity.fail(status=404)
    assert await resolve(secrets, "secret:openai:api_key") == [NOT_FOUND]


async def test_no_value_fails_the_others(secrets: Stub, identity: A8nServer) -> None:
    identity.add(
        "one", "smtp", {"port": 5432, "tls": True, "ratio": 1.5, "none": None, "half": "\ud800", "user": "crm"}
    )
    assert await values(secrets, "one") == {"port": "5432", "tls": "true", "ratio": "1.5", "user": "crm"}


async def test_creates(secrets: Stub, identity: A8nServer) -> None:
    made = await create(secrets, "once")
    assert (made.provider, made.display_name, list(made.fields)) == ("openai", "Key", ["api_key"])
    assert await values(secrets, made.secret_id) == {"api_key": CANARY}
    assert identity.headers[0]["idempotency-key"] == "once"
    assert identity.entries[0]["labels"] == {"team": "crm"}


@pytest.mark.parametrize("status", [401, 403])
async def test_refused_token(secrets: Stub, identity: A8nServer, status: int) -> None:
    identity.fail(status=status, body=CANARY)
    error = await refusal(values(secrets, "one"))
    assert (error.code(), harness.reason_of(error)) == (grpc.StatusCode.INTERNAL, "UPSTREAM_AUTH")
    assert len(identity.calls) == 1
    identity.fail(status=status)
    assert await resolve(secrets, "secret:openai:api_key") == [UNAVAILABLE]


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        ('{"detail": [{"loc": ["body", "values", "api_key"], "msg": "sk-canary is short"}]}', ["values['api_key']"]),
        ('{"detail": [{"loc": ["body", "name"]}, {"loc": ["body", "sk-canary"]}]}', ["secret.display_name"]),
        ('{"errors": {"provider": ["sk-canary"], "labels": []}}', ["secret.labels", "secret.provider"]),
        ('{"errors": [{"field": "values"}]}', ["values"]),
        ("sk-canary", ["secret"]),
        ('"sk-canary"', ["secret"]),
    ],
)
async def test_refused_field(secrets: Stub, identity: A8nServer, body: str, fields: list[str]) -> None:
    identity.fail(status=422, body=body)
    error = await refusal(create(secrets))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert harness.fields_of(error) == fields


@pytest.mark.parametrize(
    ("status", "headers"),
    [(500, {}), (503, {"Retry-After": "0"}), (429, {"Retry-After": "0"}), (502, {"Retry-After": "?"})],
)
async def test_trouble_that_passes(secrets: Stub, identity: A8nServer, status: int, headers: dict[str, str]) -> None:
    identity.add("one", "openai", {"api_key": CANARY})
    identity.fail(times=2, status=status, headers=headers)
    assert await resolve(secrets, "secret:openai:api_key") == [CANARY]


async def test_retry_after_is_honoured(secrets: Stub, identity: A8nServer) -> None:
    identity.add("one", "openai", {"api_key": CANARY})
    identity.fail(status=429, headers={"Retry-After": "1"})
    started = time.monotonic()
    assert await values(secrets, "one") == {"api_key": CANARY}
    assert time.monotonic() - started >= 1.0


@pytest.mark.parametrize(("asked", "seconds"), [("60", 60), ("9" * 400, 3600)])
async def test_long_retry_after_is_handed_on(secrets: Stub, identity: A8nServer, asked: str, seconds: int) -> None:
    identity.fail(status=503, headers={"Retry-After": asked})
    error = await refusal(values(secrets, "one"))
    assert (error.code(), harness.reason_of(error)) == (grpc.StatusCode.UNAVAILABLE, "UPSTREAM_UNAVAILABLE")
    retry = harness.detail(harness.status_of(error), error_details_pb2.RetryInfo)
    assert retry.retry_delay.seconds == seconds
    assert len(identity.calls) == 1


@pytest.mark.parametrize(
    "fault",
    [
        {"status": 500, "body": CANARY},
        {"status": 200, "body": f"<html>{CANARY}</html>"},
        {"status": 200, "body": f'"{CANARY}"'},
        {"status": 200, "body": "[" * 100_000},
        {"status": 200, "body": CANARY * 500_000},
        {"status": 200, "delay": 1.5},
        {"status": 200, "body": CANARY, "headers": {"Content-Encoding": "gzip"}},
    ],
)
async def test_trouble_that_stays(secrets: Stub, identity: A8nServer, fault: dict[str, Any]) -> None:
    identity.fail(times=9, **fault)
    error = await refusal(values(secrets, "one"))
    assert (error.code(), harness.reason_of(error)) == (grpc.StatusCode.UNAVAILABLE, "UPSTREAM_UNAVAILABLE")
    assert harness.detail(harness.status_of(error), error_details_pb2.RetryInfo).retry_delay.ToNanoseconds() > 0
    assert len(identity.calls) <= 3


async def test_create_is_not_repeated_when_it_may_have_happened(secrets: Stub, identity: A8nServer) -> None:
    identity.fail(status=500)
    assert (await refusal(create(secrets))).code() is grpc.StatusCode.UNAVAILABLE
    identity.fail(status=429)
    await create(secrets)
    assert len(identity.calls) == 3


async def test_down_at_start_and_up_again(make_settings: Callable[..., Any], unused_tcp_port: int) -> None:
    url = f"http://127.0.0.1:{unused_tcp_port}"
    settings = make_settings(SecretsSettings, a8n_url=url, a8n_token=a8n.TOKEN, a8n_retries=1)
    async with harness.running(app, settings) as (_, channel):
        secrets = secrets_service_pb2_grpc.SecretsServiceStub(channel)
        assert await resolve(secrets, "secret:openai:api_key") == [UNAVAILABLE]
        assert (await refusal(create(secrets))).code() is grpc.StatusCode.UNAVAILABLE
        async with a8n.serving(unused_tcp_port) as identity:
            identity.add("one", "openai", {"api_key": CANARY})
            assert await resolve(secrets, "secret:openai:api_key") == [CANARY]


async def test_deadline_ends_the_retries(secrets: Stub, identity: A8nServer) -> None:
    identity.fail(times=9, status=500, delay=0.4)
    request = secrets_service_pb2.GetSecretValuesRequest(secret_id="one")
    started = time.monotonic()
    error = await refusal(secrets.GetSecretValues(request, timeout=0.5))
    assert error.code() in (grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.UNAVAILABLE)
    assert time.monotonic() - started < 1.0


@pytest.mark.parametrize("secret_id", ["absent", "..", ".", "../secrets?x=", "one/values#"])
async def test_unknown_secret(secrets: Stub, identity: A8nServer, secret_id: str) -> None:
    identity.add("one", "openai", {"api_key": CANARY})
    error = await refusal(values(secrets, secret_id))
    assert (error.code(), harness.reason_of(error)) == (grpc.StatusCode.NOT_FOUND, "RESOURCE_NOT_FOUND")


async def test_other_tenants_have_nothing(make_settings: Callable[..., Any], identity: A8nServer) -> None:
    identity.add("one", "openai", {"api_key": CANARY})
    settings = make_settings(SecretsSettings, a8n_url=identity.url, a8n_token=a8n.TOKEN, a8n_tenant="acme")
    async with harness.running(app, settings) as (_, channel):
        secrets = secrets_service_pb2_grpc.SecretsServiceStub(channel)
        assert await resolve(secrets, "secret:openai:api_key") == [NOT_FOUND]
        assert (await refusal(values(secrets, "one"))).code() is grpc.StatusCode.NOT_FOUND
        assert harness.reason_of(await refusal(create(secrets))) == "NOT_SUPPORTED"
        assert not (await secrets.ListSecrets(secrets_service_pb2.ListSecretsRequest())).secrets
    assert not identity.calls


async def test_neither_answer_nor_error_leaks(
    secrets: Stub, identity: A8nServer, capfd: pytest.CaptureFixture[str]
) -> None:
    identity.add("one", "openai", {"api_key": CANARY})
    for fault in ({"status": 401}, {"status": 422}, {"status": 418}, {"status": 500}, {"status": 200}, {"status": 302}):
        identity.fail(times=3, body=CANARY, **fault)
        status = harness.status_of(await refusal(values(secrets, "one"))).SerializeToString()
        assert CANARY.encode() not in status
        assert a8n.TOKEN.encode() not in status
        identity.faults.clear()
        identity.fail(times=3, body=CANARY, **fault)
        await resolve(secrets, "secret:openai:api_key")
        identity.faults.clear()
    printed = "".join(capfd.readouterr())
    for kept in (CANARY, base64.b64encode(CANARY.encode()).decode(), a8n.TOKEN):
        assert kept not in printed
