from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

from dynamicagents.secrets.v1 import secrets_service_pb2_grpc
from opentelemetry.sdk.trace import TracerProvider

from libs import database
from libs.config import StartError
from libs.server import Drain, Server, Servicer, listening
from services.secrets import gateways, keys
from services.secrets.config import SecretsSettings
from services.secrets.model import Environment
from services.secrets.service import Backend, Secrets
from services.secrets.servicer import SecretsServicer
from services.secrets.store import SqlVaultStore
from services.secrets.vault import Vault

MIGRATIONS = Path(__file__).parent / "migrations"
KEY_FILE = "vault.key"


@asynccontextmanager
async def app(settings: SecretsSettings, provider: TracerProvider | None) -> AsyncIterator[Server]:
    environment = Environment(os.environ, settings.environment_names, settings.environment_tenants)
    async with _backend(settings) as backend:
        servicer = Servicer(
            secrets_service_pb2_grpc.add_SecretsServiceServicer_to_server,
            SecretsServicer(Secrets(backend, environment)),
            "dynamicagents.secrets.v1.SecretsService",
        )
        async with listening(settings, [servicer], drain=Drain(), provider=provider) as server:
            yield server


def _backend(settings: SecretsSettings) -> AbstractAsyncContextManager[Backend]:
    match settings.a8n_url, settings.a8n_token:
        case None, None:
            return _vault(settings)
        case None, _:
            raise StartError("setting a8n_url of secrets is missing: a8n_token needs it")
        case _, None:
            raise StartError("setting a8n_token of secrets is missing: a8n_url needs it")
        case url, token:
            return gateways.a8n(
                str(url),
                token.get_secret_value(),
                settings.a8n_tenant,
                timeout=settings.a8n_timeout,
                retries=settings.a8n_retries,
            )


@asynccontextmanager
async def _vault(settings: SecretsSettings) -> AsyncIterator[Vault]:
    async with database.opened(settings, MIGRATIONS) as db:
        store = SqlVaultStore(db)
        new = await store.check() is None
        vault = Vault(store, keys.load(settings.vault_key, settings.data_dir / KEY_FILE, new=new))
        await vault.unlock()
        yield vault
