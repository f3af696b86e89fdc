"""The methods on the vault, beyond create and resolve."""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Any

import grpc
import jwt
import pytest
import sqlalchemy as sa
from dynamicagents.secrets.v1 import secret_pb2, secrets_service_pb2, secrets_service_pb2_grpc
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.json_format import MessageToDict

from libs import database
from services.secrets.app import MIGRATIONS, app
from services.secrets.config import SecretsSettings
from services.secrets.store import tables
from tests import harness

if TYPE_CHECKING:
    from dynamicagents.secrets.v1.secrets_service_pb2_grpc import SecretsServiceAsyncStub as Stub

JWT_SECRET = "of-the-tests-and-long-enough-for-hs256"
NOT_FOUND = secrets_service_pb2.RESOLUTION_FAILURE_NOT_FOUND
DENIED = secrets_service_pb2.RESOLUTION_FAILURE_DENIED
USER = secret_pb2.SECRET_SCOPE_USER


@pytest.fixture
async def secrets(make_settings: Callable[..., Any]) -> AsyncIterator[Stub]:
    async with harness.running(app, make_settings(SecretsSettings)) as (_, channel):
        yield secrets_service_pb2_grpc.SecretsServiceStub(channel)


@pytest.fixture
async def guarded(make_settings: Callable[..., Any]) -> AsyncIterator[Stub]:
    async with harness.running(app, make_settings(SecretsSettings, jwt_secret=JWT_SECRET)) as (_, channel):
        yield secrets_service_pb2_grpc.SecretsServiceStub(channel)


def bearer(scopes: str, subject: str = "ann", tenant: str = "acme") -> tuple[tuple[str, str], ...]:
    """Of a user."""
    claims = {"sub": subject, "tenant": tenant, "scope": scopes, "exp": time.time() + 60}
    return (("authorization", f"Bearer {jwt.encode(claims, JWT_SECRET)}"),)


def router(scopes: str, subject: str = "ann", tenant: str = "acme") -> tuple[tuple[str, str], ...]:
    """Of Router, for a user."""
    acting = (("dynamic-agents-tenant", tenant), ("dynamic-agents-subject", subject))
    return bearer(f"service {scopes}", "router", "suite") + acting


ALL = "secrets.read secrets.write secrets.values"


async def create(
    secrets: Stub,
    provider: str = "openai",
    *,
    metadata: Any = None,
    name: str = "",
    labels: dict[str, str] | None = None,
    scope: Any = None,
    **values: str,
) -> secret_pb2.Secret:
    secret = secret_pb2.Secret(provider=provider, display_name=name, labels=labels, scope=scope)
    request = secrets_service_pb2.CreateSecretRequest(secret=secret, values=values or {"api_key": "sk-1"})
    return (await secrets.CreateSecret(request, metadata=metadata)).secret


async def update(
    secrets: Stub, secret_id: str, *paths: str, values: Any = None, metadata: Any = None, **fields: Any
) -> secret_pb2.Secret:
    request = secrets_service_pb2.UpdateSecretRequest(
        secret=secret_pb2.Secret(secret_id=secret_id, **fields), values=values, update_mask=FieldMask(paths=paths)
    )
    return (await secrets.UpdateSecret(request, metadata=metadata)).secret


async def values(secrets: Stub, secret_id: str, metadata: Any = None, **more: Any) -> dict[str, str]:
    request = secrets_service_pb2.GetSecretValuesRequest(secret_id=secret_id, **more)
    return dict((await secrets.GetSecretValues(request, metadata=metadata)).values)


async def resolve(secrets: Stub, *references: str, metadata: Any = None) -> list[Any]:
    request = secrets_service_pb2.ResolveReferencesRequest(references=references)
    results = (await secrets.ResolveReferences(request, metadata=metadata)).results
    return [getattr(result, result.WhichOneof("outcome") or "") for result in results]


async def refusal(call: Any) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value


async def test_get(secrets: Stub) -> None:
    made = await create(secrets, name="Key")
    found = await secrets.GetSecret(secrets_service_pb2.GetSecretRequest(secret_id=made.secret_id))
    assert found.secret == made
    assert made.etag
    assert made.scope == secret_pb2.SECRET_SCOPE_SYSTEM
    error = await refusal(secrets.GetSecret(secrets_service_pb2.GetSecretRequest(secret_id="absent")))
    assert harness.reason_of(error) == "RESOURCE_NOT_FOUND"


async def test_update_of_metadata_makes_no_version(secrets: Stub) -> None:
    made = await create(secrets, name="Key", labels={"a": "b"})
    changed = await update(secrets, made.secret_id, "display_name", display_name="Other", labels={"ignored": "x"})
    assert (changed.display_name, changed.labels, changed.version) == ("Other", {"a": "b"}, 1)
    assert changed.etag != made.etag


async def test_update_of_values_is_served_at_once(secrets: Stub) -> None:
    made = await create(secrets, api_key="sk-1", org_id="org")
    assert await resolve(secrets, "secret:openai:api_key") == ["sk-1"]
    changed = await update(secrets, made.secret_id, "values.api_key", values={"api_key": "sk-2"})
    assert (changed.version, list(changed.fields)) == (2, ["api_key", "org_id"])
    assert await resolve(secrets, "secret:openai:api_key", "secret:openai:org_id") == ["sk-2", "org"]
    changed = await update(secrets, made.secret_id, "values.org_id")
    assert list(changed.fields) == ["api_key"]
    assert await resolve(secrets, "secret:openai:org_id") == [NOT_FOUND]
    await update(secrets, made.secret_id, "values", values={"api_key": "sk-3", "org_id": "new"})
    assert await values(secrets, made.secret_id) == {"api_key": "sk-3", "org_id": "new"}
    assert await values(secrets, made.secret_id, version=1) == {"api_key": "sk-1", "org_id": "org"}
    assert (await refusal(values(secrets, made.secret_id, version=9))).code() is grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize(
    ("fields", "place"),
    [({"name": "a\0"}, "secret.display_name"), ({"labels": {"a": "\0"}}, "secret.labels")],
)
async def test_a_nul_is_refused_with_its_place(secrets: Stub, fields: dict[str, Any], place: str) -> None:
    assert harness.fields_of(await refusal(create(secrets, **fields))) == [place]
    made = await create(secrets)
    name, labels = fields.get("name"), fields.get("labels")
    error = await refusal(update(secrets, made.secret_id, "display_name", "labels", display_name=name, labels=labels))
    assert harness.fields_of(error) == [place]


async def test_update_without_a_mask_changes_what_is_given(secrets: Stub) -> None:
    made = await create(secrets, name="Key", labels={"a": "b"})
    asked = secrets_service_pb2.UpdateSecretRequest(
        secret=secret_pb2.Secret(secret_id=made.secret_id), values={"api_key": "sk-2"}
    )
    changed = (await secrets.UpdateSecret(asked)).secret
    assert (changed.version, changed.display_name, changed.labels) == (2, "Key", {"a": "b"})
    assert await values(secrets, made.secret_id) == {"api_key": "sk-2"}
    changed = await update(secrets, made.secret_id, display_name="Other", labels={"c": "d"})
    assert (changed.version, changed.display_name, changed.labels) == (2, "Other", {"c": "d"})


async def test_updates_without_an_etag_all_come_to_pass(
    make_settings: Callable[..., Any], database_settings: dict[str, Any]
) -> None:
    settings = make_settings(SecretsSettings, **database_settings)
    await database.migrate(settings, MIGRATIONS)
    async with harness.running(app, settings) as (_, one), harness.running(app, settings) as (_, other):
        stubs: list[Any] = [secrets_service_pb2_grpc.SecretsServiceStub(channel) for channel in (one, other)]
        made = await create(stubs[0])
        changes = [update(stubs[n % 2], made.secret_id, "values", values={"api_key": f"sk-{n + 2}"}) for n in range(20)]
        assert sorted(each.version for each in await asyncio.gather(*changes)) == list(range(2, 22))
        gone = secrets_service_pb2.DeleteSecretRequest(secret_id=made.secret_id)
        meanwhile = [update(stubs[1], made.secret_id, "values", values={"api_key": "x"}) for _ in range(5)]
        deleted, *others = await asyncio.gather(stubs[0].DeleteSecret(gone), *meanwhile, return_exceptions=True)
        assert isinstance(deleted, secrets_service_pb2.DeleteSecretResponse)
        failed = [each for each in others if isinstance(each, grpc.aio.AioRpcError)]
        assert {harness.reason_of(each) for each in failed} <= {"RESOURCE_NOT_FOUND"}


@pytest.mark.parametrize(
    ("paths", "given", "field"),
    [
        ((), {}, "update_mask"),
        (("provider",), {}, "update_mask"),
        (("nonsense",), {}, "update_mask"),
        (("labels.a",), {}, "update_mask"),
        (("values", "values.api_key"), {"api_key": "x"}, "update_mask"),
        (("display_name",), {"api_key": "x"}, "values['api_key']"),
        (("values",), {"org_id": "x"}, "values['api_key']"),
        (("values",), {"api_key": "x", "api_kee": "y"}, "values['api_kee']"),
        (("values.api_key",), {}, "values"),
    ],
)
async def test_bad_update(secrets: Stub, paths: tuple[str, ...], given: dict[str, str], field: str) -> None:
    made = await create(secrets)
    error = await refusal(update(secrets, made.secret_id, *paths, values=given))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert harness.fields_of(error) == [field]


async def test_etags(secrets: Stub) -> None:
    made = await create(secrets)
    changed = await update(secrets, made.secret_id, "display_name", display_name="Other", etag=made.etag)
    error = await refusal(update(secrets, made.secret_id, "display_name", display_name="Third", etag=made.etag))
    assert (error.code(), harness.reason_of(error)) == (grpc.StatusCode.ABORTED, "STALE_ETAG")
    stale = secrets_service_pb2.DeleteSecretRequest(secret_id=made.secret_id, etag=made.etag)
    assert (await refusal(secrets.DeleteSecret(stale))).code() is grpc.StatusCode.ABORTED
    await secrets.DeleteSecret(secrets_service_pb2.DeleteSecretRequest(secret_id=made.secret_id, etag=changed.etag))


async def test_simultaneous_updates_lose_nothing(secrets: Stub) -> None:
    made = await create(secrets, "thing", start="x")
    fields = [f"field_{number}" for number in range(4)]
    await asyncio.gather(*(update(secrets, made.secret_id, f"values.{f}", values={f: "x"}) for f in fields))
    assert set(await values(secrets, made.secret_id)) == {"start", *fields}


async def test_deleted_secret_is_gone(secrets: Stub) -> None:
    request = secrets_service_pb2.CreateSecretRequest(
        secret=secret_pb2.Secret(provider="openai"), values={"api_key": "sk-1"}, request_id="once"
    )
    made = (await secrets.CreateSecret(request)).secret
    assert await resolve(secrets, "secret:openai:api_key") == ["sk-1"]
    await secrets.DeleteSecret(secrets_service_pb2.DeleteSecretRequest(secret_id=made.secret_id))
    assert await resolve(secrets, "secret:openai:api_key") == [NOT_FOUND]
    assert (await refusal(values(secrets, made.secret_id))).code() is grpc.StatusCode.NOT_FOUND
    assert not (await secrets.ListSecrets(secrets_service_pb2.ListSecretsRequest())).secrets
    assert (await refusal(secrets.CreateSecret(request))).code() is grpc.StatusCode.ALREADY_EXISTS
    again = secrets_service_pb2.DeleteSecretRequest(secret_id=made.secret_id)
    assert (await refusal(secrets.DeleteSecret(again))).code() is grpc.StatusCode.NOT_FOUND


async def test_named_and_preferred(make_settings: Callable[..., Any]) -> None:
    async with harness.running(app, make_settings(SecretsSettings, prefer_labels="env=prod")) as (_, channel):
        secrets = secrets_service_pb2_grpc.SecretsServiceStub(channel)
        await create(secrets, name="crm prod", labels={"env": "prod"}, api_key="sk-prod")
        test = await create(secrets, name="crm test", api_key="sk-test")
        references = (
            "secret:openai:api_key",
            "secret:openai/crm test:api_key",
            f"secret:openai/{test.secret_id}:api_key",
        )
        assert await resolve(secrets, *references, "secret:openai/none:api_key") == [
            "sk-prod",
            "sk-test",
            "sk-test",
            NOT_FOUND,
        ]


async def test_renaming_does_not_make_newest(secrets: Stub) -> None:
    old = await create(secrets, api_key="sk-old")
    await create(secrets, api_key="sk-new")
    await update(secrets, old.secret_id, "display_name", display_name="renamed")
    assert await resolve(secrets, "secret:openai:api_key") == ["sk-new"]
    await update(secrets, old.secret_id, "values", values={"api_key": "sk-rotated"})
    assert await resolve(secrets, "secret:openai:api_key") == ["sk-rotated"]


async def test_variables_stand_for_secrets(secrets: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    await create(secrets, "azure_openai", api_key="az-1", endpoint="https://x.example", api_version="v1")
    names = ("AZURE_API_KEY", "AZURE_API_BASE", "AZURE_OPENAI_API_VERSION", "OPENAI_API_KEY", "UNMAPPED")
    references = [f"os.environ/{name}" for name in names]
    assert await resolve(secrets, *references) == ["az-1", "https://x.example", "v1", NOT_FOUND, NOT_FOUND]
    monkeypatch.setenv("AZURE_API_KEY", "az-of-the-environment")
    assert await resolve(secrets, "os.environ/AZURE_API_KEY") == ["az-of-the-environment"]


async def test_user_scope_falls_back_to_nothing(guarded: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    ann, bob = router(ALL, "ann"), router(ALL, "bob")
    monkeypatch.setenv("USER_OPENAI_API_KEY", "sk-environment")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-environment")
    await create(guarded, metadata=ann, api_key="sk-system")
    both = ("user:openai:api_key", "os.environ/USER_OPENAI_API_KEY")
    assert await resolve(guarded, *both, metadata=ann) == [NOT_FOUND, NOT_FOUND]
    made = await create(guarded, metadata=ann, scope=USER, api_key="sk-ann")
    assert made.scope == USER
    assert await resolve(guarded, *both, "secret:openai:api_key", metadata=ann) == ["sk-ann", "sk-ann", "sk-system"]
    assert await resolve(guarded, *both, "secret:openai:api_key", metadata=bob) == [NOT_FOUND, NOT_FOUND, "sk-system"]
    assert (await refusal(values(guarded, made.secret_id, bob))).code() is grpc.StatusCode.NOT_FOUND
    assert await values(guarded, made.secret_id, ann) == {"api_key": "sk-ann"}
    listed = [
        len((await guarded.ListSecrets(secrets_service_pb2.ListSecretsRequest(scope=scope), metadata=who)).secrets)
        for who, scope in ((ann, None), (ann, USER), (ann, secret_pb2.SECRET_SCOPE_SYSTEM), (bob, None))
    ]
    assert listed == [2, 1, 1, 1]


async def test_scopes_of_one_provider(guarded: Stub) -> None:
    admin = bearer(ALL)
    mine, other = await create(guarded, metadata=admin), await create(guarded, "groq", metadata=admin)
    some = router("secrets.values:openai secrets.read:openai secrets.write:openai")
    assert await resolve(guarded, "secret:openai:api_key", "secret:groq:api_key", metadata=some) == ["sk-1", DENIED]
    assert await resolve(guarded, "os.environ/GROQ_API_KEY", "os.environ/HOME", metadata=some) == [DENIED, DENIED]
    listed = await guarded.ListSecrets(secrets_service_pb2.ListSecretsRequest(page_size=1), metadata=some)
    assert [secret.secret_id for secret in listed.secrets] == [mine.secret_id]
    assert await values(guarded, mine.secret_id, some) == {"api_key": "sk-1"}
    assert harness.reason_of(await refusal(values(guarded, other.secret_id, some))) == "SCOPE_MISSING"
    assert harness.reason_of(await refusal(create(guarded, "groq", metadata=some))) == "SCOPE_MISSING"
    assert [
        p.name
        for p in (await guarded.ListProviders(secrets_service_pb2.ListProvidersRequest(), metadata=some)).providers
    ] == ["openai"]


async def test_providers_and_schemas(secrets: Stub) -> None:
    found = (await secrets.ListProviders(secrets_service_pb2.ListProvidersRequest())).providers
    names = ["anthropic", "azure_openai", "bedrock", "discord", "google", "groq", "openai", "slack"]
    assert [provider.name for provider in found] == names
    assert list(found[6].required_fields) == ["api_key"]
    request = secrets_service_pb2.GetProviderSchemaRequest(provider="bedrock")
    schema = MessageToDict((await secrets.GetProviderSchema(request)).schema)
    assert schema["required"] == ["aws_access_key_id", "aws_secret_access_key"]
    request.provider = "unknown"
    assert (await refusal(secrets.GetProviderSchema(request))).code() is grpc.StatusCode.NOT_FOUND


async def test_values_must_fit_the_schema(secrets: Stub) -> None:
    bad = {"endpoint": "sk-canary", "api_kee": "sk-canary"}
    error = await refusal(create(secrets, "azure_openai", **bad))
    assert set(harness.fields_of(error)) == {"values['endpoint']", "values['api_key']", "values['api_kee']"}
    assert b"sk-canary" not in harness.status_of(error).SerializeToString()
    assert harness.fields_of(await refusal(create(secrets, ""))) == ["secret.provider"]


async def test_strict_providers(make_settings: Callable[..., Any]) -> None:
    async with harness.running(app, make_settings(SecretsSettings, strict_providers=True)) as (_, channel):
        secrets = secrets_service_pb2_grpc.SecretsServiceStub(channel)
        assert harness.fields_of(await refusal(create(secrets, "smtp", user="x"))) == ["secret.provider"]
        await create(secrets)


async def events(watch: Any, count: int) -> list[Any]:
    found = []
    async with asyncio.timeout(20):
        while len(found) < count:
            message = await watch.read()
            assert message is not grpc.aio.EOF
            kind = message.WhichOneof("event")
            change = message.change
            found.append((change.secret_id, change.version, change.deleted) if kind == "change" else kind)
    return found


async def test_watch_sees_all_processes(database_settings: dict[str, Any]) -> None:
    settings = SecretsSettings.load(
        port=0,
        drain_grace=1.0,
        watch_heartbeat=0.5,
        vault_key=base64.b64encode(b"k" * 32).decode(),
        **database_settings,
    )
    await database.migrate(settings, MIGRATIONS)
    async with harness.running(app, settings) as (server, here), harness.running(app, settings) as (_, there):
        one, other = (secrets_service_pb2_grpc.SecretsServiceStub(channel) for channel in (here, there))
        assert await resolve(one, "secret:openai:api_key") == [NOT_FOUND]
        first = await create(other)
        async with asyncio.timeout(8):  # sooner than the absence would be asked for again
            while await resolve(one, "secret:openai:api_key") != ["sk-1"]:
                await asyncio.sleep(0.02)
        watch = one.WatchSecrets(secrets_service_pb2.WatchSecretsRequest())
        assert await events(watch, 2) == [(first.secret_id, 1, False), "snapshot_complete"]
        assert await events(watch, 1) == ["heartbeat"]
        await update(other, first.secret_id, "values", values={"api_key": "sk-2"})
        async with asyncio.timeout(8):  # long before the cache would ask by itself
            while await resolve(one, "secret:openai:api_key") != ["sk-2"]:
                await asyncio.sleep(0.02)
        seen = await events(watch, 1)
        while seen[-1] == "heartbeat":
            seen = await events(watch, 1)
        assert seen == [(first.secret_id, 2, False)]
        await other.DeleteSecret(secrets_service_pb2.DeleteSecretRequest(secret_id=first.secret_id))
        assert await events(watch, 1) == [(first.secret_id, 2, True)]
        again = one.WatchSecrets(secrets_service_pb2.WatchSecretsRequest())
        assert await events(again, 1) == ["snapshot_complete"]
        server.drain.start()
        error = await refusal(watch.read())
        assert (error.code(), harness.reason_of(error)) == (grpc.StatusCode.UNAVAILABLE, "SHUTTING_DOWN")


async def test_watch_sees_versions_in_order(secrets: Stub) -> None:
    made = await create(secrets)
    watch = secrets.WatchSecrets(secrets_service_pb2.WatchSecretsRequest())
    assert await events(watch, 2) == [(made.secret_id, 1, False), "snapshot_complete"]
    for number in range(2, 12):
        await update(secrets, made.secret_id, "values", values={"api_key": f"sk-{number}"})
    seen = await events(watch, 1)
    while seen[-1][1] < 11:
        seen += await events(watch, 1)
    versions = [version for _, version, _ in seen]
    assert versions == sorted(set(versions))
    again = secrets.WatchSecrets(secrets_service_pb2.WatchSecretsRequest())
    assert await events(again, 2) == [(made.secret_id, 11, False), "snapshot_complete"]


async def trail(settings: SecretsSettings) -> list[Any]:
    async with database.opened(settings, MIGRATIONS) as db:
        return list(await db.rows(sa.select(tables.audit).order_by(tables.audit.c.record_id)))


async def test_audit(make_settings: Callable[..., Any]) -> None:
    settings = make_settings(SecretsSettings, jwt_secret=JWT_SECRET)
    async with harness.running(app, settings) as (_, channel):
        secrets = secrets_service_pb2_grpc.SecretsServiceStub(channel)
        ann = router(ALL)
        await create(secrets, metadata=ann, api_key="sk-canary")
        for _ in range(2):
            await resolve(secrets, "secret:openai:api_key", metadata=ann)
        await resolve(secrets, "secret:openai:org_id", "sk-canary", metadata=ann)
        await refusal(resolve(secrets, "secret:openai:api_key", metadata=bearer("secrets.read", "eve")))
    rows = await trail(settings)
    assert [(row.subject, row.action, row.outcome, row.field) for row in rows] == [
        ("ann", "create", "allow", ""),
        ("ann", "create", "done", "api_key"),
        ("ann", "resolve", "miss", "api_key"),
        ("ann", "resolve", "hit", "api_key"),
        ("ann", "resolve", "not_found", "org_id"),
        ("ann", "resolve", "malformed", ""),
        ("eve", "resolve", "deny", ""),
    ]
    digests = {row.digest for row in rows if row.digest}
    assert (len(digests), len(digests.pop())) == (1, 64)
    assert {(row.tenant, row.service) for row in rows} == {("acme", "router"), ("acme", "")}
    assert "sk-canary" not in repr(rows)


@pytest.mark.parametrize("fail_closed", [True, False])
async def test_audit_that_cannot_be_written(make_settings: Callable[..., Any], *, fail_closed: bool) -> None:
    settings = make_settings(SecretsSettings, audit_fail_closed=fail_closed)
    async with harness.running(app, settings) as (_, channel):
        secrets = secrets_service_pb2_grpc.SecretsServiceStub(channel)
        await create(secrets)
        assert await resolve(secrets, "secret:openai:api_key") == ["sk-1"]
        async with database.opened(settings, MIGRATIONS) as db:
            async with db.write() as connection:
                await connection.exec_driver_sql("ALTER TABLE audit RENAME TO elsewhere")
            if fail_closed:
                refused = await refusal(create(secrets, "groq"))
                assert harness.reason_of(refused) == "AUDIT_UNAVAILABLE"
                error = await refusal(resolve(secrets, "secret:openai:api_key"))
                assert (error.code(), harness.reason_of(error)) == (grpc.StatusCode.UNAVAILABLE, "AUDIT_UNAVAILABLE")
            else:
                assert await resolve(secrets, "secret:openai:api_key") == ["sk-1"]
            async with db.write() as connection:
                await connection.exec_driver_sql("ALTER TABLE elsewhere RENAME TO audit")
        assert await resolve(secrets, "secret:openai:api_key") == ["sk-1"]
        assert await resolve(secrets, "secret:groq:api_key") == [NOT_FOUND]
