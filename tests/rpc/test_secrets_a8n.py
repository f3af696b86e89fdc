from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import httpx
import jwt
import pytest
from dynamicagents.secrets.v1 import secret_pb2, secrets_service_pb2, secrets_service_pb2_grpc
from google.protobuf.field_mask_pb2 import FieldMask
from google.rpc import error_details_pb2

from libs import deadline, errors
from services.secrets.app import app
from services.secrets.config import SecretsSettings
from services.secrets.gateways.a8n import A8n
from services.secrets.gateways.a8n import a8n as a8n_backend
from services.secrets.gateways.http import Call, Limits, Transport
from services.secrets.model import Owner
from services.secrets.service.backend import Memory
from services.secrets.service.cache import Policy
from tests import a8n, harness
from tests.a8n import A8nServer, Fault

if TYPE_CHECKING:
    from dynamicagents.secrets.v1.secrets_service_pb2_grpc import SecretsServiceAsyncStub as Stub

NOT_FOUND = secrets_service_pb2.RESOLUTION_FAILURE_NOT_FOUND
UNAVAILABLE = secrets_service_pb2.RESOLUTION_FAILURE_UNAVAILABLE
DENIED = secrets_service_pb2.RESOLUTION_FAILURE_DENIED
CANARY = "sk-canary"
JWT_SECRET = "of-the-tests-and-long-enough-for-hs256"


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


async def resolve(secrets: Stub, *references: str, refresh: bool = False) -> list[Any]:
    request = secrets_service_pb2.ResolveReferencesRequest(references=references, refresh=refresh)
    results = (await secrets.ResolveReferences(request)).results
    return [getattr(result, result.WhichOneof("outcome") or "") for result in results]


async def values(secrets: Stub, secret_id: str, **more: Any) -> dict[str, str]:
    request = secrets_service_pb2.GetSecretValuesRequest(secret_id=secret_id, **more)
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
    kept = b"".join(path.read_bytes() for path in settings.data_dir.rglob("*") if path.is_file())
    assert CANARY.encode() not in kept
    assert a8n.TOKEN.encode() not in kept


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
    assert await resolve(secrets, "secret:openai:api_key", refresh=True) == [UNAVAILABLE]


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
        {"status": 200, "body": CANARY, "headers": {"Content-Encoding": "gzip"}},
        {"status": 200, "body": '{"items": []}', "cut": True},
    ],
)
async def test_trouble_that_stays(secrets: Stub, identity: A8nServer, fault: dict[str, Any]) -> None:
    identity.fail(times=9, **fault)
    error = await refusal(values(secrets, "one"))
    assert (error.code(), harness.reason_of(error)) == (grpc.StatusCode.UNAVAILABLE, "UPSTREAM_UNAVAILABLE")
    assert harness.detail(harness.status_of(error), error_details_pb2.RetryInfo).retry_delay.ToNanoseconds() > 0
    assert len(identity.calls) <= 3


async def test_slow(make_settings: Callable[..., Any], identity: A8nServer) -> None:
    identity.add("one", "openai", {"api_key": CANARY})
    settings = make_settings(SecretsSettings, a8n_url=identity.url, a8n_token=a8n.TOKEN, a8n_retries=1, a8n_timeout=0.2)
    async with harness.running(app, settings) as (_, channel):
        secrets = secrets_service_pb2_grpc.SecretsServiceStub(channel)
        identity.fail(times=2, delay=60)
        error = await refusal(values(secrets, "one"))
        assert (error.code(), harness.reason_of(error)) == (grpc.StatusCode.UNAVAILABLE, "UPSTREAM_UNAVAILABLE")
        assert len(identity.calls) == 2


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
        error = await refusal(create(secrets))
        assert error.code() is grpc.StatusCode.UNAVAILABLE
        assert harness.detail(harness.status_of(error), error_details_pb2.RetryInfo).retry_delay.ToNanoseconds() > 0
        async with a8n.serving(unused_tcp_port) as identity:
            identity.add("one", "openai", {"api_key": CANARY})
            assert await resolve(secrets, "secret:openai:api_key") == [CANARY]


async def test_deadline_ends_the_retries(identity: A8nServer) -> None:
    identity.fail(times=99, status=500, delay=0.2)

    async def hurried(transport: Transport) -> None:
        deadline.enter(0.5)
        await transport.call(Call("GET", "api/v1/secrets"))

    async with httpx.AsyncClient(base_url=identity.url) as client:
        with pytest.raises(errors.Unavailable):
            await asyncio.create_task(hurried(Transport(client, lambda: a8n.TOKEN, Limits(retries=50))))
    assert 1 <= len(identity.calls) <= 3


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


async def test_thousand_misses_are_one_list_and_one_values_call(secrets: Stub, identity: A8nServer) -> None:
    identity.add("one", "openai", {"api_key": CANARY})
    found = await asyncio.gather(*(resolve(secrets, "secret:openai:api_key") for _ in range(1000)))
    assert {answer for (answer,) in found} == {CANARY}
    assert identity.calls == ["GET /api/v1/secrets?provider=openai", "GET /api/v1/secrets/one/values"]


async def test_absence_is_asked_for_once(secrets: Stub, identity: A8nServer) -> None:
    for _ in range(3):
        assert await resolve(secrets, "secret:openai:api_key") == [NOT_FOUND]
    assert len(identity.calls) == 1
    await create(secrets)
    assert await resolve(secrets, "secret:openai:api_key") == [CANARY]


@pytest.mark.parametrize("paging", ["next", "token", "cursor"])
async def test_pages(secrets: Stub, identity: A8nServer, paging: str) -> None:
    identity.page_size, identity.paging = 2, paging
    for number in range(5):
        identity.add(f"s{number}", "openai", {"api_key": f"sk-{number}"}, updated_at=f"2026-01-0{number + 1}T00:00:00Z")
    assert await resolve(secrets, "secret:openai:api_key") == ["sk-4"]
    assert len(identity.calls) == 4
    assert {headers["host"] for headers in identity.headers} == {identity.url.split("/")[2]}


async def test_pages_without_end(secrets: Stub, identity: A8nServer) -> None:
    identity.page_size, identity.paging = 1, "loop"
    for number in range(3):
        identity.add(f"s{number}", "openai", {"api_key": CANARY})
    assert await resolve(secrets, "secret:openai:api_key") == [UNAVAILABLE]
    assert len(identity.calls) < 5


async def test_changes_and_deletes(secrets: Stub, identity: A8nServer) -> None:
    identity.add("one", "openai", {"api_key": "sk-1", "org_id": "org"})
    assert await resolve(secrets, "secret:openai:api_key") == ["sk-1"]
    request = secrets_service_pb2.UpdateSecretRequest(
        secret=secret_pb2.Secret(secret_id="one", display_name="Key"),
        values={"api_key": "sk-2"},
        update_mask=FieldMask(paths=["display_name", "values.api_key"]),
    )
    changed = (await secrets.UpdateSecret(request)).secret
    assert (changed.display_name, changed.version) == ("Key", 2)
    assert identity.values["one"] == {"api_key": "sk-2", "org_id": "org"}
    assert await resolve(secrets, "secret:openai:api_key") == ["sk-2"]
    request.secret.etag = "stale"
    assert (await refusal(secrets.UpdateSecret(request))).code() is grpc.StatusCode.ABORTED
    await secrets.DeleteSecret(secrets_service_pb2.DeleteSecretRequest(secret_id="one", etag=changed.etag))
    assert await resolve(secrets, "secret:openai:api_key") == [NOT_FOUND]


async def test_schemas_of_a8n(secrets: Stub, identity: A8nServer) -> None:
    identity.schemas = {"openai": {"type": "object", "properties": {"api_key": {"minLength": 20}}}, "crm": {}}
    listed = await secrets.ListProviders(secrets_service_pb2.ListProvidersRequest())
    assert [provider.name for provider in listed.providers] == ["crm", "openai"]
    error = await refusal(create(secrets))
    assert harness.fields_of(error) == ["values['api_key']"]
    assert CANARY.encode() not in harness.status_of(error).SerializeToString()


@pytest.mark.parametrize("schema", [{"type": 7}, {"$ref": "http://127.0.0.1:1/elsewhere"}])
async def test_schema_that_cannot_be_used(secrets: Stub, identity: A8nServer, schema: dict[str, Any]) -> None:
    identity.schemas = {"openai": schema}
    assert (await create(secrets)).provider == "openai"


async def test_watch_sees_what_others_changed(make_settings: Callable[..., Any], identity: A8nServer) -> None:
    identity.add("one", "openai", {"api_key": CANARY}, version=1)
    settings = make_settings(SecretsSettings, a8n_url=identity.url, a8n_token=a8n.TOKEN, cache_ttl=0.2)
    async with harness.running(app, settings) as (_, channel):
        secrets = secrets_service_pb2_grpc.SecretsServiceStub(channel)
        watch = secrets.WatchSecrets(secrets_service_pb2.WatchSecretsRequest())
        assert (await watch.read()).change.version == 1
        assert (await watch.read()).WhichOneof("event") == "snapshot_complete"
        identity.rotate("one", {"api_key": "sk-2"}, version=2)
        assert (await watch.read()).change.version == 2
        identity.remove("one")
        assert (await watch.read()).change.deleted


async def test_breaker_spares_what_is_ill(
    make_settings: Callable[..., Any], identity: A8nServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = make_settings(
        SecretsSettings,
        a8n_url=identity.url,
        a8n_token=a8n.TOKEN,
        a8n_retries=0,
        a8n_breaker_failures=3,
        a8n_breaker_seconds=30,
    )
    identity.add("one", "openai", {"api_key": CANARY})
    identity.fail(times=3, status=500)
    async with harness.running(app, settings) as (_, channel):
        secrets = secrets_service_pb2_grpc.SecretsServiceStub(channel)
        for _ in range(6):
            error = await refusal(values(secrets, "one"))
            assert harness.reason_of(error) == "UPSTREAM_UNAVAILABLE"
        retry = harness.detail(harness.status_of(error), error_details_pb2.RetryInfo).retry_delay
        assert 0 < retry.ToNanoseconds() <= 30e9
        assert len(identity.calls) == 3
        later = time.time() + 31
        monkeypatch.setattr(time, "time", lambda: later)
        assert await values(secrets, "one") == {"api_key": CANARY}


async def test_token_is_read_again_when_refused(
    make_settings: Callable[..., Any], identity: A8nServer, tmp_path: Path
) -> None:
    file = tmp_path / "token"
    file.write_text("first\n")
    identity.tokens = {"first": None}
    identity.add("one", "openai", {"api_key": CANARY})
    settings = make_settings(SecretsSettings, a8n_url=identity.url, a8n_token_file=file)
    async with harness.running(app, settings) as (_, channel):
        secrets = secrets_service_pb2_grpc.SecretsServiceStub(channel)
        assert await values(secrets, "one") == {"api_key": CANARY}
        identity.tokens = {"second": None}
        assert harness.reason_of(await refusal(values(secrets, "one", refresh=True))) == "UPSTREAM_AUTH"
        file.write_text("second\n")
        assert await values(secrets, "one", refresh=True) == {"api_key": CANARY}


async def test_user_scope_takes_the_users_token(make_settings: Callable[..., Any], identity: A8nServer) -> None:
    def bearer(subject: str, scope: str = "secrets.values") -> str:
        claims = {"sub": subject, "tenant": "default", "scope": scope, "exp": time.time() + 60}
        return jwt.encode(claims, JWT_SECRET)

    ann, bob, service = bearer("ann"), bearer("bob"), bearer("router", "service")
    identity.tokens |= {ann: {"hers"}, bob: set()}
    identity.add("hers", "openai", {"api_key": "sk-ann"})
    identity.add("system", "openai", {"api_key": "sk-system"})
    settings = make_settings(
        SecretsSettings, a8n_url=identity.url, a8n_token=a8n.TOKEN, jwt_secret=JWT_SECRET, cache_decision_ttl=0.2
    )
    async with harness.running(app, settings) as (_, channel):
        secrets = secrets_service_pb2_grpc.SecretsServiceStub(channel)

        async def asked(subject: str, own: str = "") -> list[Any]:
            request = secrets_service_pb2.ResolveReferencesRequest(
                references=["user:openai:api_key", "secret:openai:api_key"]
            )
            metadata = (
                ("authorization", f"Bearer {service}"),
                ("dynamic-agents-tenant", "default"),
                ("dynamic-agents-subject", subject),
                ("dynamic-agents-token", own),
            )
            results = (await secrets.ResolveReferences(request, metadata=metadata)).results
            return [getattr(result, result.WhichOneof("outcome") or "") for result in results]

        assert await asked("ann", ann) == ["sk-ann", "sk-system"]
        assert await asked("bob", bob) == [NOT_FOUND, "sk-system"]
        for stolen in ("", ann, service, "nonsense"):  # ann's is no token of bob's
            assert await asked("bob", stolen) == [DENIED, "sk-system"]
        assert await asked("ann", "") == [DENIED, "sk-system"]
        del identity.tokens[ann]
        async with asyncio.timeout(10):
            while await asked("ann", ann) != [DENIED, "sk-system"]:
                await asyncio.sleep(0.05)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


async def test_cache_over_a8n(identity: A8nServer) -> None:
    """Stale within max_stale, evicted by a refusal, rotated in order, decided anew: on a clock of ours."""
    clock, system = Clock(), Owner("default")
    ann = Owner("default", "ann", "token-of-ann")
    identity.tokens["token-of-ann"] = {"hers"}
    identity.add("one", "openai", {"api_key": "sk-1"}, version=1)
    identity.add("hers", "openai", {"api_key": "sk-ann"})
    async with httpx.AsyncClient(base_url=identity.url) as client:
        backend = A8n(Transport(client, lambda: a8n.TOKEN, Limits(retries=0, breaker_failures=99)), "default")
        memory = Memory(backend, Policy(ttl=300, max_stale=1000), decision_ttl=60, clock=clock)

        async def read(owner: Owner = system, *, refresh: bool = False) -> tuple[str, bool]:
            await memory.admit(owner)
            found = await memory.inventory(owner, "openai", refresh=refresh)
            hit = await memory.values(owner, found.value[0], refresh=refresh)
            return hit.value.values["api_key"].reveal(), hit.stale or found.stale

        assert await read() == ("sk-1", False)
        identity.rotate("one", {"api_key": "sk-2"}, version=2)
        assert await read() == ("sk-1", False)
        clock.now += 301
        assert await read() == ("sk-2", False)
        assert await read(refresh=True) == ("sk-2", False)

        clock.now += 301
        identity.fail(times=2, status=500)
        assert await read() == ("sk-2", True)
        identity.faults.clear()
        clock.now += 800
        identity.fail(times=2, status=503)
        with pytest.raises(errors.Unavailable):
            await read()
        identity.faults.clear()
        assert await read() == ("sk-2", False)

        for status in (401, 403):
            identity.fail(status=status)
            with pytest.raises(errors.Internal):
                await read(refresh=True)
            identity.fail(times=1, status=500)
            with pytest.raises(errors.Unavailable):  # what was there before the refusal is not stale, it is gone
                await read()
            assert await read() == ("sk-2", False)

        identity.entry("one")["status"] = "revoked"
        with pytest.raises(errors.NotFound):
            await read(refresh=True)

        assert await read(ann) == ("sk-ann", False)
        del identity.tokens["token-of-ann"]
        clock.now += 20
        assert await read(ann) == ("sk-ann", False)
        clock.now += 41
        with pytest.raises(errors.PermissionDenied):
            await read(ann)
        await memory.close()


@pytest.mark.parametrize("body", ["", "null", "{}"])
async def test_a_change_may_be_answered_with_nothing(identity: A8nServer, body: str) -> None:
    identity.add("one", "openai", {"api_key": CANARY})
    limits = Limits(timeout=5.0, retries=0, breaker_failures=99, breaker_seconds=0.1)
    async with a8n_backend(identity.url, lambda: a8n.TOKEN, "default", limits) as backend:
        secret = await backend.get(Owner("default"), "one")
        identity.fail(status=200, body=body)
        assert await backend.update(Owner("default"), secret, "Other", {}, None) == secret
        identity.fail(status=200, body=body)
        await backend.delete(Owner("default"), secret)
        assert [call.split()[0] for call in identity.calls] == ["GET", "PATCH", "GET", "DELETE"]


async def test_null_is_no_absence(secrets: Stub, identity: A8nServer) -> None:
    identity.add("one", "openai", {"api_key": CANARY})
    identity.fail(status=200, body="null")
    assert await resolve(secrets, "secret:openai:api_key") == [UNAVAILABLE]
    assert await resolve(secrets, "secret:openai:api_key") == [CANARY]


async def test_values_outlast_an_outage(make_settings: Callable[..., Any], identity: A8nServer) -> None:
    settings = make_settings(
        SecretsSettings,
        a8n_url=identity.url,
        a8n_token=a8n.TOKEN,
        a8n_retries=0,
        cache_ttl=0.05,
        a8n_breaker_failures=99,
    )
    identity.add("one", "openai", {"api_key": CANARY})
    identity.add("two", "groq", {"api_key": CANARY})
    async with harness.running(app, settings) as (_, channel):
        secrets: Any = secrets_service_pb2_grpc.SecretsServiceStub(channel)
        ask = secrets_service_pb2.GetSecretValuesRequest
        for secret_id in ("one", "two"):
            assert not (await secrets.GetSecretValues(ask(secret_id=secret_id))).stale
        identity.fail(times=1000, status=500)
        async with asyncio.timeout(10):
            while not (answer := await secrets.GetSecretValues(ask(secret_id="one"))).stale:
                await asyncio.sleep(0.01)
        assert (answer.values, answer.age.ToNanoseconds() > 0) == ({"api_key": CANARY}, True)
        absent = await refusal(secrets.GetSecretValues(ask(secret_id="three")))
        assert harness.reason_of(absent) == "UPSTREAM_UNAVAILABLE"
        identity.faults.clear()
        identity.remove("one")
        assert (await refusal(secrets.GetSecretValues(ask(secret_id="one")))).code() is grpc.StatusCode.NOT_FOUND
        identity.fail(status=401)
        refused = await refusal(secrets.GetSecretValues(ask(secret_id="two")))
        assert harness.reason_of(refused) == "UPSTREAM_AUTH"
        identity.fail(times=1000, status=500)
        for secret_id in ("one", "two"):  # what is gone or refused does not come back
            error = await refusal(secrets.GetSecretValues(ask(secret_id=secret_id)))
            assert harness.reason_of(error) == "UPSTREAM_UNAVAILABLE"


async def test_truncated_and_large_bodies(secrets: Stub, identity: A8nServer) -> None:
    identity.add("one", "openai", {"api_key": CANARY})
    for body in ('{"items": [{"id": "one", "provider": "openai"', " " * 10_000_000 + "[]"):
        identity.fail(times=3, status=200, body=body)
        assert await resolve(secrets, "secret:openai:api_key") == [UNAVAILABLE]
        identity.faults.clear()
    assert await resolve(secrets, "secret:openai:api_key") == [CANARY]
