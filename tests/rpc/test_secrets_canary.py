"""A value goes in and comes out, and is nowhere else: not in logs, files, errors."""

from __future__ import annotations

import asyncio
import base64
import json
import re
import sqlite3
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from urllib.parse import quote

import grpc
import pytest
from dynamicagents.secrets.v1 import secret_pb2, secrets_service_pb2, secrets_service_pb2_grpc

from tests import harness

CANARY = 'sk-canary/+ü"0123456789'
FORMS = {
    form if isinstance(form, bytes) else form.encode()
    for form in (
        CANARY,
        base64.b64encode(CANARY.encode()),
        base64.urlsafe_b64encode(CANARY.encode()),
        quote(CANARY),
        quote(CANARY, safe=""),
        json.dumps(CANARY)[1:-1],
        CANARY.encode().hex(),
        "sk-canary",
    )
}


def assert_clean(content: bytes | bytearray) -> None:
    assert not [form for form in FORMS if form in content]


@asynccontextmanager
async def process(log_format: str, printed: bytearray) -> AsyncIterator[str]:
    """The address of the service, run as in earnest; all that it prints is in `printed` when it has ended."""
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "services.secrets"),
        env={
            "DYNAMIC_AGENTS_SECRETS_PORT": "0",
            "DYNAMIC_AGENTS_DATA_DIR": "data",
            "DYNAMIC_AGENTS_LOG_LEVEL": "debug",
            "DYNAMIC_AGENTS_LOG_FORMAT": log_format,
        },
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    assert child.stdout
    try:
        async with asyncio.timeout(30):
            while not (found := re.search(rb"127\.0\.0\.1:\d+", printed)):
                line = await child.stdout.readline()
                assert line, printed.decode()
                printed += line
        yield found[0].decode()
    finally:
        child.terminate()
        printed += await child.stdout.read()
        assert await child.wait() == 0


@pytest.mark.parametrize("log_format", ["json", "console"])
async def test_canary(tmp_path: Path, log_format: str) -> None:
    data, printed = tmp_path / "data", bytearray()
    request = secrets_service_pb2.CreateSecretRequest(
        secret=secret_pb2.Secret(provider="openai"), values={"api_key": CANARY}, request_id="once"
    )
    failures: list[grpc.aio.AioRpcError] = []
    async with process(log_format, printed) as address, grpc.aio.insecure_channel(address) as channel:
        secrets = secrets_service_pb2_grpc.SecretsServiceStub(channel)

        async def fail(code: grpc.StatusCode) -> None:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await secrets.CreateSecret(request)
            assert caught.value.code() is code
            failures.append(caught.value)

        secret = (await secrets.CreateSecret(request)).secret
        asked = secrets_service_pb2.ResolveReferencesRequest(references=["secret:openai:api_key", CANARY])
        assert (await secrets.ResolveReferences(asked)).results[0].value == CANARY
        read = secrets_service_pb2.GetSecretValuesRequest(secret_id=secret.secret_id)
        assert (await secrets.GetSecretValues(read)).values == {"api_key": CANARY}
        read.lease_ttl.FromSeconds(60)
        lease = (await secrets.GetSecretValues(read)).lease
        await secrets.RenewLease(secrets_service_pb2.RenewLeaseRequest(lease_id=lease.lease_id, ttl=read.lease_ttl))
        wrap = secrets_service_pb2.WrapSecretValuesRequest(secret_id=secret.secret_id, ttl=read.lease_ttl)
        made = await secrets.WrapSecretValues(wrap)
        unwrap = secrets_service_pb2.UnwrapSecretValuesRequest(token=made.token, creation_path=made.creation_path)
        assert (await secrets.UnwrapSecretValues(unwrap)).values == {"api_key": CANARY}
        with pytest.raises(grpc.aio.AioRpcError) as spent:
            await secrets.UnwrapSecretValues(unwrap)
        failures.append(spent.value)

        request.values["api_key"] = f"{CANARY}-other"
        await fail(grpc.StatusCode.INVALID_ARGUMENT)
        request.values["api_key"] = CANARY * 5000
        await fail(grpc.StatusCode.INVALID_ARGUMENT)
        request.values["api_key"] = CANARY
        with closing(sqlite3.connect(data / "secrets.db")) as database, database:
            database.execute("UPDATE secrets SET labels = 'not json'")
        await fail(grpc.StatusCode.INTERNAL)
    assert b"Traceback" in printed
    assert b"alert" in printed
    assert made.token.encode() not in printed
    assert_clean(printed)
    for failure in failures:
        assert_clean(harness.status_of(failure).SerializeToString())
    files = [path for path in data.rglob("*") if path.is_file()]
    assert {"secrets.db", "vault.key"} <= {path.name for path in files}
    for path in files:
        assert_clean(path.read_bytes())
