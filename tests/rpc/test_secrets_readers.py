"""Who may have values, under what lease, and how they are handed over: with real tokens, over gRPC."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

import grpc
import jwt
import pytest
from dynamicagents.secrets.v1 import secret_pb2, secrets_service_pb2, secrets_service_pb2_grpc
from google.protobuf.duration_pb2 import Duration

from libs import client, identity
from libs.config import Settings
from libs.server import Drain, Servicer, listening
from services.router.config import RouterSettings
from services.secrets.app import app
from services.secrets.config import SecretsSettings
from tests import a8n, harness

if TYPE_CHECKING:
    from dynamicagents.secrets.v1.secrets_service_pb2_grpc import SecretsServiceAsyncStub as Stub

SECRET = "of-the-tests-and-long-enough-for-hs256"
CANARY = "sk-canary"
REFERENCE = "secret:openai:api_key"
DENIED = grpc.StatusCode.PERMISSION_DENIED
Metadata = tuple[tuple[str, str], ...]


def token(subject: str, scopes: str, tenant: str = "acme") -> str:
    claims = {"sub": subject, "tenant": tenant, "scope": scopes, "exp": time.time() + 3600}
    return jwt.encode(claims, SECRET)


def bearer(subject: str, scopes: str) -> Metadata:
    return (("authorization", f"Bearer {token(subject, scopes)}"),)


def service(name: str, scopes: str = "service") -> Metadata:
    acting = (("dynamic-agents-tenant", "acme"), ("dynamic-agents-subject", "ann"))
    return (("authorization", f"Bearer {token(name, scopes, 'suite')}"), *acting)


@pytest.fixture
def settings(make_settings: Callable[..., Any]) -> SecretsSettings:
    made: SecretsSettings = make_settings(SecretsSettings, jwt_secret=SECRET)
    return made


@pytest.fixture
async def secrets(settings: SecretsSettings) -> AsyncIterator[Stub]:
    async with harness.running(app, settings) as (_, channel):
        yield secrets_service_pb2_grpc.SecretsServiceStub(channel)


ADMIN = bearer("admin", "secrets.write")


async def create(secrets: Stub, metadata: Metadata | None = ADMIN) -> str:
    secret = secret_pb2.Secret(provider="openai")
    request = secrets_service_pb2.CreateSecretRequest(secret=secret, values={"api_key": CANARY})
    return (await secrets.CreateSecret(request, metadata=metadata)).secret.secret_id


def seconds(count: float) -> Duration:
    return Duration(seconds=int(count))


async def refusal(call: Any) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value


def askings(secrets: Stub, secret_id: str, metadata: Metadata | None) -> list[Any]:
    """Every method that is for readers of values alone."""
    ttl = seconds(60)
    return [
        secrets.GetSecretValues(
            secrets_service_pb2.GetSecretValuesRequest(secret_id=secret_id, lease_ttl=ttl), metadata=metadata
        ),
        secrets.ResolveReferences(
            secrets_service_pb2.ResolveReferencesRequest(references=[REFERENCE]), metadata=metadata
        ),
        secrets.WrapSecretValues(
            secrets_service_pb2.WrapSecretValuesRequest(secret_id=secret_id, ttl=ttl), metadata=metadata
        ),
    ]


@pytest.mark.parametrize(
    "metadata",
    [
        bearer("ann", "secrets.values secrets.read secrets.write"),
        bearer("ann", "*"),
        bearer("router", "secrets.values"),
        (*bearer("ann", "secrets.values"), ("dynamic-agents-tenant", "acme"), ("dynamic-agents-subject", "router")),
        service("registry"),
        service("crm", "service secrets.values"),
    ],
    ids=["user", "star", "user named router", "user who says router", "another service", "service of the CRM"],
)
async def test_values_are_for_no_user(secrets: Stub, metadata: Metadata) -> None:
    secret_id = await create(secrets)
    for call in askings(secrets, secret_id, metadata):
        error = await refusal(call)
        assert (error.code(), harness.reason_of(error)) == (DENIED, "SCOPE_MISSING")
        assert CANARY.encode() not in harness.status_of(error).SerializeToString()


@pytest.mark.parametrize("name", ["router", "execution"])
async def test_values_are_for_the_services(secrets: Stub, name: str) -> None:
    read, resolved, wrapped = askings(secrets, await create(secrets), service(name))
    assert (await read).values == {"api_key": CANARY}
    assert (await resolved).results[0].value == CANARY
    assert (await wrapped).token
    narrow = service(name, "service secrets.values:groq")
    assert (await refusal(askings(secrets, await create(secrets), narrow)[0])).code() is DENIED


async def test_readers_are_configured(make_settings: Callable[..., Any]) -> None:
    settings = make_settings(SecretsSettings, jwt_secret=SECRET, value_readers="suite, crm")
    async with harness.running(app, settings) as (_, channel):
        secrets = secrets_service_pb2_grpc.SecretsServiceStub(channel)
        secret_id = await create(secrets)
        assert (await askings(secrets, secret_id, service("crm"))[0]).values
        assert (await refusal(askings(secrets, secret_id, service("router"))[0])).code() is DENIED


async def test_without_credentials_everybody_is_local(make_settings: Callable[..., Any]) -> None:
    async with harness.running(app, make_settings(SecretsSettings)) as (_, channel):
        secrets = secrets_service_pb2_grpc.SecretsServiceStub(channel)
        for call in askings(secrets, await create(secrets, None), None):
            await call


async def resolved(settings: Settings, address: str) -> str:
    """As Router asks, in the name of the current caller."""
    async with client.channel(address, settings, None) as channel:
        request = secrets_service_pb2.ResolveReferencesRequest(references=[REFERENCE])
        answer = await secrets_service_pb2_grpc.SecretsServiceStub(channel).ResolveReferences(request)
        return str(answer.results[0].value)


async def test_router_reads_for_a_user_who_may_not(make_settings: Callable[..., Any]) -> None:
    user = token("ann", "")
    identity.enter(identity.Caller("acme", "ann", frozenset(), user))
    async with harness.running(app, make_settings(SecretsSettings, jwt_secret=SECRET)) as (server, channel):
        await create(secrets_service_pb2_grpc.SecretsServiceStub(channel))
        router = make_settings(RouterSettings, service_token=token("router", "service", "suite"))
        assert await resolved(router, server.address) == CANARY
        assert (await refusal(resolved(make_settings(RouterSettings), server.address))).code() is DENIED


class Passing(secrets_service_pb2_grpc.SecretsServiceServicer):
    """A service that asks the next one in the name of its caller."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._next = secrets_service_pb2_grpc.SecretsServiceStub(channel)

    async def ResolveReferences(self, request: Any, context: Any) -> Any:
        return await self._next.ResolveReferences(request)


@asynccontextmanager
async def passing(settings: Settings, to: str) -> AsyncIterator[str]:
    async with client.channel(to, settings, None) as channel:
        add = secrets_service_pb2_grpc.add_SecretsServiceServicer_to_server
        servicer = Servicer(add, Passing(channel), "dynamicagents.secrets.v1.SecretsService")
        async with listening(settings, [servicer], drain=Drain(), provider=None) as server:
            yield server.address


async def test_users_token_reaches_a8n_through_the_services(make_settings: Callable[..., Any]) -> None:
    """A user calls Execution, which calls Router, which calls Secrets: each with its own token and the user's."""
    ann, bob = (token(subject, "", "default") for subject in ("ann", "bob"))
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        upstream = await enter(a8n.serving())
        upstream.tokens |= {ann: {"hers"}, bob: set()}
        upstream.add("hers", "openai", {"api_key": "sk-ann"})
        upstream.add("system", "openai", {"api_key": CANARY})
        settings = make_settings(SecretsSettings, jwt_secret=SECRET, a8n_url=upstream.url, a8n_token=a8n.TOKEN)
        server, _ = await enter(harness.running(app, settings))
        address = server.address
        for name in ("router", "execution"):
            own = token(name, "service", "suite")
            address = await enter(passing(make_settings(RouterSettings, jwt_secret=SECRET, service_token=own), address))
        secrets = secrets_service_pb2_grpc.SecretsServiceStub(await enter(grpc.aio.insecure_channel(address)))
        request = secrets_service_pb2.ResolveReferencesRequest(references=["user:openai:api_key", REFERENCE])

        async def asked(own: str) -> list[Any]:
            metadata = (("authorization", f"Bearer {own}"),)
            results = (await secrets.ResolveReferences(request, metadata=metadata)).results
            return [getattr(result, result.WhichOneof("outcome") or "") for result in results]

        assert await asked(ann) == ["sk-ann", CANARY]
        assert await asked(bob) == [secrets_service_pb2.RESOLUTION_FAILURE_NOT_FOUND, CANARY]
    shown = {headers["authorization"].removeprefix("Bearer ") for headers in upstream.headers}
    assert shown == {ann, bob, a8n.TOKEN}


async def lease(secrets: Stub, secret_id: str, ttl: float = 60, parent: str = "", who: str = "router") -> Any:
    request = secrets_service_pb2.GetSecretValuesRequest(
        secret_id=secret_id, lease_ttl=seconds(ttl), parent_lease_id=parent
    )
    answer = await secrets.GetSecretValues(request, metadata=service(who))
    assert answer.values == {"api_key": CANARY}
    return answer.lease


async def test_leases(secrets: Stub) -> None:
    secret_id = await create(secrets)
    parent = await lease(secrets, secret_id, 60)
    assert 0 < parent.ttl.seconds < 60
    assert parent.expire_time.seconds < parent.max_expire_time.seconds
    child = await lease(secrets, secret_id, 3600, parent.lease_id)
    assert (child.parent_lease_id, child.expire_time) == (parent.lease_id, parent.expire_time)
    request = secrets_service_pb2.RenewLeaseRequest(lease_id=parent.lease_id, ttl=seconds(600))
    renewed = (await secrets.RenewLease(request, metadata=service("router"))).lease
    assert 590 <= renewed.ttl.seconds <= 600
    for other in (service("execution"), bearer("ann", "*")):
        assert (await refusal(secrets.RenewLease(request, metadata=other))).code() is grpc.StatusCode.NOT_FOUND

    revoke = secrets_service_pb2.RevokeLeasesRequest(prefix=f"openai/{secret_id}")
    assert (await secrets.RevokeLeases(revoke, metadata=bearer("ann", "secrets.read"))).revoked == 0
    assert (await secrets.RevokeLeases(revoke, metadata=bearer("admin", "secrets.write:openai"))).revoked == 2
    assert (await refusal(secrets.RenewLease(request, metadata=service("router")))).code() is grpc.StatusCode.NOT_FOUND
    without = secrets_service_pb2.GetSecretValuesRequest(secret_id=secret_id)
    assert not (await secrets.GetSecretValues(without, metadata=service("router"))).HasField("lease")


@pytest.mark.parametrize(
    ("method", "request_", "field"),
    [
        ("RenewLease", secrets_service_pb2.RenewLeaseRequest(lease_id="x"), "ttl"),
        ("RenewLease", secrets_service_pb2.RenewLeaseRequest(lease_id="x", ttl=seconds(0)), "ttl"),
        ("RenewLease", secrets_service_pb2.RenewLeaseRequest(ttl=seconds(5)), "lease_id"),
        ("RevokeLeases", secrets_service_pb2.RevokeLeasesRequest(), "prefix"),
        ("WrapSecretValues", secrets_service_pb2.WrapSecretValuesRequest(secret_id="x"), "ttl"),
        ("UnwrapSecretValues", secrets_service_pb2.UnwrapSecretValuesRequest(token="x"), "creation_path"),
        (
            "GetSecretValues",
            secrets_service_pb2.GetSecretValuesRequest(secret_id="x", lease_ttl=seconds(-1)),
            "lease_ttl",
        ),
    ],
)
async def test_bad_requests(secrets: Stub, method: str, request_: Any, field: str) -> None:
    error = await refusal(getattr(secrets, method)(request_, metadata=service("router")))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert harness.fields_of(error) == [field]


async def test_hand_over_to_a_worker(
    secrets: Stub, settings: SecretsSettings, capfd: pytest.CaptureFixture[str]
) -> None:
    secret_id = await create(secrets)
    wrap = secrets_service_pb2.WrapSecretValuesRequest(secret_id=secret_id, ttl=seconds(60))
    made = await secrets.WrapSecretValues(wrap, metadata=service("execution"))
    request = secrets_service_pb2.UnwrapSecretValuesRequest(token=made.token, creation_path=made.creation_path)
    worker = bearer("worker", "")
    answer = await secrets.UnwrapSecretValues(request, metadata=worker)
    assert (answer.values, answer.version) == ({"api_key": CANARY}, 1)
    error = await refusal(secrets.UnwrapSecretValues(request, metadata=worker))
    assert error.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert harness.reason_of(error) == "WRAPPING_TOKEN_INVALID"
    printed = "".join(capfd.readouterr())
    assert "alert" in printed
    kept = [path.read_bytes() for path in settings.data_dir.rglob("*") if path.is_file()]
    for secret in (made.token, CANARY):
        assert secret.encode() not in b"".join([printed.encode(), *kept, harness.status_of(error).SerializeToString()])
