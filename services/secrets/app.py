from __future__ import annotations

import os
import ssl
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path

from dynamicagents.secrets.v1 import secrets_service_pb2_grpc
from opentelemetry.sdk.trace import TracerProvider

from libs import database, identity
from libs.config import StartError
from libs.database import Database
from libs.metrics import Metrics
from libs.server import Drain, Server, Servicer, listening
from services.secrets import keys
from services.secrets.config import SecretsSettings
from services.secrets.gateways.a8n import a8n
from services.secrets.gateways.http import Limits
from services.secrets.references import Environment
from services.secrets.service.audit import Trail
from services.secrets.service.backend import Backend, Memory
from services.secrets.service.cache import Policy
from services.secrets.service.leases import Leases
from services.secrets.service.resolution import Resolver
from services.secrets.service.secrets import Secrets
from services.secrets.service.watch import Feed, Watches
from services.secrets.service.wraps import Wraps
from services.secrets.servicer import SecretsServicer
from services.secrets.store.audit import SqlAuditStore
from services.secrets.store.leases import SqlLeaseStore
from services.secrets.store.vault import SqlVaultStore
from services.secrets.store.wraps import SqlWrapStore
from services.secrets.vault import Vault

MIGRATIONS = Path(__file__).parent / "migrations"
KEY_FILE = "vault.key"


@asynccontextmanager
async def app(settings: SecretsSettings, provider: TracerProvider | None) -> AsyncIterator[Server]:
    drain = Drain()
    remote = _a8n(settings)
    readers = None if identity.is_open(settings) else settings.value_readers
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        db = await enter(database.opened(settings, MIGRATIONS))
        vault = await unlocked(settings, db)
        backend = await enter(remote) if remote else vault
        memory = await enter(_memory(settings, backend))
        metrics = Metrics()
        metrics.counted(
            "secrets_cache_lookups_total", "Looks into the cache, by what for.", ("kind", "result"), memory.lookups
        )
        feed = await enter(Feed(SqlVaultStore(db), memory, poll=settings.vault_poll))
        trail = await enter(_trail(settings, db, vault))
        announce = feed.touched if remote else feed.announced
        strict = settings.strict_providers
        secrets = Secrets(backend, memory, trail, announce, strict_providers=strict, readers=readers)
        lease_ttl, wrap_ttl = settings.lease_max_ttl, settings.wrap_max_ttl
        leases = await enter(Leases(SqlLeaseStore(db), secrets, memory, trail, feed.touched, max_ttl=lease_ttl))
        wraps = Wraps(SqlWrapStore(db), secrets, memory, trail, max_ttl=wrap_ttl)
        poll = settings.cache_ttl if remote else None
        watches = Watches(backend, feed, drain, trail, heartbeat=settings.watch_heartbeat, poll=poll)
        servicer = Servicer(
            secrets_service_pb2_grpc.add_SecretsServiceServicer_to_server,
            SecretsServicer(secrets, _resolver(settings, memory, trail, readers), watches, leases, wraps),
            "dynamicagents.secrets.v1.SecretsService",
        )
        yield await enter(listening(settings, [servicer], drain=drain, provider=provider, metrics=metrics))


def _resolver(settings: SecretsSettings, memory: Memory, trail: Trail, readers: Collection[str] | None) -> Resolver:
    environment = Environment(os.environ, settings.environment_names, settings.environment_tenants)
    return Resolver(memory, environment, trail, preferred=dict(settings.prefer_labels), readers=readers)


def _trail(settings: SecretsSettings, db: Database, vault: Vault) -> Trail:
    return Trail(
        SqlAuditStore(db),
        lambda value: (vault.key.key_id, value.digest(vault.key.audit_key)),
        fail_closed=settings.audit_fail_closed,
        days=settings.audit_days,
    )


@asynccontextmanager
async def _memory(settings: SecretsSettings, backend: Backend) -> AsyncIterator[Memory]:
    policy = Policy(
        ttl=settings.cache_ttl,
        max_stale=max(settings.cache_ttl, settings.cache_max_stale),
        negative=settings.cache_negative_ttl,
        size=settings.cache_size,
    )
    memory = Memory(backend, policy, decision_ttl=settings.cache_decision_ttl)
    try:
        yield memory
    finally:
        await memory.close()


async def unlocked(settings: SecretsSettings, db: Database) -> Vault:
    """The vault, which is there beside A8N Identity too: its key makes the digests of the audit trail."""
    store = SqlVaultStore(db)
    path = settings.data_dir / KEY_FILE
    new = await store.check() is None
    key = keys.load(settings.vault_key, path, new=new)
    reload = None if settings.vault_key else lambda: keys.reload(path)
    vault = Vault(store, key, keep=settings.vault_versions, reload=reload)
    waiting = keys.successor(path)
    if settings.vault_key is None and waiting.exists():  # a rotation that ended before the file took its place
        successor = Vault(store, keys.load(None, waiting, new=False), keep=settings.vault_versions, reload=reload)
        if await successor.opens():
            waiting.replace(path)
            return successor
    await vault.unlock()
    return vault


def _a8n(settings: SecretsSettings) -> AbstractAsyncContextManager[Backend] | None:
    token = _token(settings)
    match settings.a8n_url, token:
        case None, None:
            return None
        case None, _:
            raise StartError("setting a8n_url of secrets is missing: a8n_token needs it")
        case _, None:
            raise StartError("setting a8n_token of secrets is missing: a8n_url needs it")
        case url, token:
            limits = Limits(
                settings.a8n_timeout,
                settings.a8n_retries,
                settings.a8n_breaker_failures,
                settings.a8n_breaker_seconds,
            )
            return a8n(str(url), token, settings.a8n_tenant, limits, tls=_tls(settings))


def _token(settings: SecretsSettings) -> Callable[[], str] | None:
    given, path = settings.a8n_token, settings.a8n_token_file
    if given is not None and path is not None:
        raise StartError("a8n_token and a8n_token_file of secrets exclude each other: set one")
    if path is not None:
        return lambda: _read_token(path)
    return (lambda: given.get_secret_value()) if given is not None else None


def _read_token(path: Path) -> str:
    try:
        token = path.read_text().strip()
    except (OSError, UnicodeDecodeError):
        raise StartError(f"a8n_token_file of secrets: cannot read {path}") from None
    if not token or not token.isascii() or not token.isprintable():
        raise StartError(f"a8n_token_file of secrets: {path} holds no token")
    return token


def _tls(settings: SecretsSettings) -> ssl.SSLContext | bool:
    if settings.a8n_ca_file is None:
        return True
    try:
        return ssl.create_default_context(cafile=settings.a8n_ca_file)
    except OSError:
        raise StartError(f"a8n_ca_file of secrets: cannot use {settings.a8n_ca_file}") from None
