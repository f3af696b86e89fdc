"""A8N Identity behind TLS: certificates, HTTP/2 where it is offered, HTTP/1.1 where it is not."""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from dynamicagents.secrets.v1 import secrets_service_pb2, secrets_service_pb2_grpc

from services.secrets.app import app
from services.secrets.config import SecretsSettings
from tests import a8n, h2_server, harness

if TYPE_CHECKING:
    from dynamicagents.secrets.v1.secrets_service_pb2_grpc import SecretsServiceAsyncStub as Stub

UNAVAILABLE = secrets_service_pb2.RESOLUTION_FAILURE_UNAVAILABLE
CANARY = "sk-canary"


async def resolve(secrets: Stub, *references: str) -> list[Any]:
    request = secrets_service_pb2.ResolveReferencesRequest(references=references)
    results = (await secrets.ResolveReferences(request)).results
    return [getattr(result, result.WhichOneof("outcome") or "") for result in results]


def certificate(folder: Path) -> tuple[Path, ssl.SSLContext]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "a8n")])
    now = datetime.datetime.now(datetime.UTC)
    built = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
        .sign(key, hashes.SHA256())
    )
    public, private = folder / "a8n.pem", folder / "a8n.key"
    public.write_bytes(built.public_bytes(serialization.Encoding.PEM))
    plain = serialization.NoEncryption()
    private.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(public, private)
    return public, context


async def test_tls(make_settings: Callable[..., Any], tmp_path: Path) -> None:
    authority, context = certificate(tmp_path)
    async with a8n.serving(tls=context) as identity:
        identity.add("one", "openai", {"api_key": CANARY})
        for more, answer in (({}, UNAVAILABLE), ({"a8n_ca_file": authority}, CANARY)):
            settings = make_settings(SecretsSettings, a8n_url=identity.url, a8n_token=a8n.TOKEN, a8n_retries=0, **more)
            async with harness.running(app, settings) as (_, channel):
                secrets = secrets_service_pb2_grpc.SecretsServiceStub(channel)
                assert await resolve(secrets, "secret:openai:api_key") == [answer]


class Identity:
    """What A8N Identity has, without how it is asked."""

    resets = 0

    def __call__(self, method: str, path: str, body: bytes) -> tuple[int, object]:
        if self.resets:
            self.resets -= 1
            return 0, None
        if path.endswith("/values"):
            return 200, {"values": {"api_key": CANARY}}
        return 200, {"items": [{"id": "one", "name": "one", "provider": path.rpartition("=")[2]}]}


@pytest.mark.parametrize("resets", [0, 2])
async def test_http2_where_it_is_offered(make_settings: Callable[..., Any], tmp_path: Path, resets: int) -> None:
    authority, context = certificate(tmp_path)
    identity = Identity()
    async with h2_server.serving(identity, context) as server:
        settings = make_settings(SecretsSettings, a8n_url=server.url, a8n_token=a8n.TOKEN, a8n_ca_file=authority)
        async with harness.running(app, settings) as (_, channel):
            secrets = secrets_service_pb2_grpc.SecretsServiceStub(channel)
            identity.resets = resets
            providers = ["openai", "groq", "anthropic", "slack"]
            found = await asyncio.gather(*(resolve(secrets, f"secret:{each}:api_key") for each in providers))
    assert found == [[CANARY]] * len(providers)
    assert server.protocols == ["h2"]  # one connection, whatever the number of calls at a time
    assert len(server.calls) == 2 * len(providers) + resets


async def test_http1_where_it_is_not(make_settings: Callable[..., Any], tmp_path: Path) -> None:
    authority, context = certificate(tmp_path)
    async with a8n.serving(tls=context) as identity:
        identity.add("one", "openai", {"api_key": CANARY})
        settings = make_settings(SecretsSettings, a8n_url=identity.url, a8n_token=a8n.TOKEN, a8n_ca_file=authority)
        async with harness.running(app, settings) as (_, channel):
            secrets = secrets_service_pb2_grpc.SecretsServiceStub(channel)
            assert await resolve(secrets, "secret:openai:api_key") == [CANARY]
        assert identity.versions == {(1, 1)}
