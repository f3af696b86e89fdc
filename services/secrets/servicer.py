"""Proto <-> model for the Secrets service."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any, Final

import grpc
from dynamicagents.secrets.v1 import secret_pb2, secrets_service_pb2, secrets_service_pb2_grpc
from google.protobuf.duration_pb2 import Duration
from google.protobuf.json_format import ParseDict
from google.protobuf.struct_pb2 import Struct

from libs import errors, identity, masks
from services.secrets.model import Change, Draft, Lease, Scope, Secret, Value, Values
from services.secrets.references import Failure, Resolution
from services.secrets.service.leases import Leases
from services.secrets.service.resolution import Resolver
from services.secrets.service.secrets import Secrets
from services.secrets.service.watch import Heartbeat, Seen, SnapshotComplete, Watches
from services.secrets.service.wraps import Wraps

Context = grpc.aio.ServicerContext[Any, Any]

_FAILURES: Final = {
    Failure.MALFORMED: secrets_service_pb2.RESOLUTION_FAILURE_MALFORMED,
    Failure.NOT_FOUND: secrets_service_pb2.RESOLUTION_FAILURE_NOT_FOUND,
    Failure.DENIED: secrets_service_pb2.RESOLUTION_FAILURE_DENIED,
    Failure.UNAVAILABLE: secrets_service_pb2.RESOLUTION_FAILURE_UNAVAILABLE,
}
_SCOPES: Final = {Scope.SYSTEM: secret_pb2.SECRET_SCOPE_SYSTEM, Scope.USER: secret_pb2.SECRET_SCOPE_USER}
_SCOPE_OF: Final = {code: scope for scope, code in _SCOPES.items()}


class SecretsServicer(secrets_service_pb2_grpc.SecretsServiceServicer):
    def __init__(self, secrets: Secrets, resolver: Resolver, watches: Watches, leases: Leases, wraps: Wraps) -> None:
        self._secrets, self._resolver, self._watches = secrets, resolver, watches
        self._leases, self._wraps = leases, wraps

    async def CreateSecret(
        self, request: secrets_service_pb2.CreateSecretRequest, context: Context
    ) -> secrets_service_pb2.CreateSecretResponse:
        _require_text(request.secret)
        scope = _SCOPE_OF.get(request.secret.scope, Scope.SYSTEM)
        made = await self._secrets.create(identity.current(), scope, _draft(request), request.request_id)
        return secrets_service_pb2.CreateSecretResponse(secret=_secret(made))

    async def GetSecret(
        self, request: secrets_service_pb2.GetSecretRequest, context: Context
    ) -> secrets_service_pb2.GetSecretResponse:
        found = await self._secrets.get(identity.current(), request.secret_id)
        return secrets_service_pb2.GetSecretResponse(secret=_secret(found))

    async def ListSecrets(
        self, request: secrets_service_pb2.ListSecretsRequest, context: Context
    ) -> secrets_service_pb2.ListSecretsResponse:
        found, token = await self._secrets.list(
            identity.current(), request.page_size, request.page_token, request.provider, _SCOPE_OF.get(request.scope)
        )
        return secrets_service_pb2.ListSecretsResponse(secrets=map(_secret, found), next_page_token=token)

    async def UpdateSecret(
        self, request: secrets_service_pb2.UpdateSecretRequest, context: Context
    ) -> secrets_service_pb2.UpdateSecretResponse:
        secret = request.secret
        if not secret.secret_id:
            raise errors.invalid("secret.secret_id", "is required")
        _require_text(secret)
        made = await self._secrets.update(identity.current(), secret.secret_id, _change(request), secret.etag)
        return secrets_service_pb2.UpdateSecretResponse(secret=_secret(made))

    async def DeleteSecret(
        self, request: secrets_service_pb2.DeleteSecretRequest, context: Context
    ) -> secrets_service_pb2.DeleteSecretResponse:
        await self._secrets.delete(identity.current(), request.secret_id, request.etag)
        return secrets_service_pb2.DeleteSecretResponse()

    async def GetSecretValues(
        self, request: secrets_service_pb2.GetSecretValuesRequest, context: Context
    ) -> secrets_service_pb2.GetSecretValuesResponse:
        caller, lease = identity.current(), None
        secret, hit = await self._secrets.values(caller, request.secret_id, request.version, refresh=request.refresh)
        if request.HasField("lease_ttl"):
            ttl = request.lease_ttl.ToTimedelta()
            lease = await self._leases.grant(caller, secret, ttl, request.parent_lease_id)
        return secrets_service_pb2.GetSecretValuesResponse(
            values=_revealed(hit.value.values),
            version=hit.value.version,
            stale=hit.stale,
            age=_duration(hit.age),
            lease=self._lease(lease) if lease else None,
        )

    async def RenewLease(
        self, request: secrets_service_pb2.RenewLeaseRequest, context: Context
    ) -> secrets_service_pb2.RenewLeaseResponse:
        lease = await self._leases.renew(identity.current(), request.lease_id, request.ttl.ToTimedelta())
        return secrets_service_pb2.RenewLeaseResponse(lease=self._lease(lease))

    async def RevokeLeases(
        self, request: secrets_service_pb2.RevokeLeasesRequest, context: Context
    ) -> secrets_service_pb2.RevokeLeasesResponse:
        count = await self._leases.revoke(identity.current(), request.prefix)
        return secrets_service_pb2.RevokeLeasesResponse(revoked=count)

    async def WrapSecretValues(
        self, request: secrets_service_pb2.WrapSecretValuesRequest, context: Context
    ) -> secrets_service_pb2.WrapSecretValuesResponse:
        token, wrap = await self._wraps.wrap(identity.current(), request.secret_id, request.ttl.ToTimedelta())
        return secrets_service_pb2.WrapSecretValuesResponse(
            token=token.reveal(), creation_path=wrap.path, expire_time=wrap.expire_time
        )

    async def UnwrapSecretValues(
        self, request: secrets_service_pb2.UnwrapSecretValuesRequest, context: Context
    ) -> secrets_service_pb2.UnwrapSecretValuesResponse:
        found, wrap = await self._wraps.unwrap(identity.current(), Value(request.token), request.creation_path)
        return secrets_service_pb2.UnwrapSecretValuesResponse(
            values=_revealed(found.values), version=found.version, create_time=wrap.create_time
        )

    async def ResolveReferences(
        self, request: secrets_service_pb2.ResolveReferencesRequest, context: Context
    ) -> secrets_service_pb2.ResolveReferencesResponse:
        found = await self._resolver.resolve(identity.current(), request.references, refresh=request.refresh)
        results = map(_resolved, request.references, found)
        return secrets_service_pb2.ResolveReferencesResponse(results=results)

    async def ListProviders(
        self, request: secrets_service_pb2.ListProvidersRequest, context: Context
    ) -> secrets_service_pb2.ListProvidersResponse:
        found = await self._secrets.providers(identity.current())
        return secrets_service_pb2.ListProvidersResponse(
            providers=[
                secrets_service_pb2.Provider(
                    name=each.name, display_name=each.display_name, fields=each.fields, required_fields=each.required
                )
                for each in found
            ]
        )

    async def GetProviderSchema(
        self, request: secrets_service_pb2.GetProviderSchemaRequest, context: Context
    ) -> secrets_service_pb2.GetProviderSchemaResponse:
        schema = await self._secrets.schema(identity.current(), request.provider)
        return secrets_service_pb2.GetProviderSchemaResponse(schema=ParseDict(dict(schema), Struct()))

    async def WatchSecrets(
        self, request: secrets_service_pb2.WatchSecretsRequest, context: Context
    ) -> AsyncIterator[secrets_service_pb2.WatchSecretsResponse]:
        async with aclosing(self._watches.watch(identity.current(), request.provider)) as watch:
            async for item in watch:
                yield _watch_response(item)

    def _lease(self, lease: Lease) -> secrets_service_pb2.Lease:
        return secrets_service_pb2.Lease(
            lease_id=lease.lease_id,
            expire_time=lease.expire_time,
            max_expire_time=lease.max_expire_time,
            ttl=self._leases.left(lease),
            parent_lease_id=lease.parent_id,
        )


def _require_text(secret: secret_pb2.Secret) -> None:
    """PostgreSQL cannot keep a NUL; what the one database refuses, the other does not take."""
    for field, texts in {
        "display_name": (secret.display_name,),
        "labels": (*secret.labels, *secret.labels.values()),
    }.items():
        if any("\0" in text for text in texts):
            raise errors.invalid(f"secret.{field}", "contains a NUL character")


def _revealed(values: Values) -> dict[str, str]:
    return {name: value.reveal() for name, value in values.items()}


def _draft(request: secrets_service_pb2.CreateSecretRequest) -> Draft:
    return Draft(
        provider=request.secret.provider,
        display_name=request.secret.display_name,
        labels=dict(request.secret.labels),
        values={name: Value(text) for name, text in request.values.items()},
    )


def _change(request: secrets_service_pb2.UpdateSecretRequest) -> Change:
    """A mask of fields of the secret, of `values`, and of `values.<field>`; without one, what is given changes."""
    paths = list(request.update_mask.paths) or _given(request)
    given = {name: Value(text) for name, text in request.values.items()}
    single = [path.removeprefix("values.") for path in paths if path.startswith("values.")]
    others = [path for path in paths if path != "values" and not path.startswith("values.")]
    if others or not paths:
        request.update_mask.paths[:] = others
        masks.paths(request.update_mask, secret_pb2.Secret.DESCRIPTOR, ("display_name", "labels"))
    if any("." in path for path in others):
        raise errors.invalid("update_mask", "labels change as a whole")
    if "values" in paths and single:
        raise errors.invalid("update_mask", "'values' contradicts 'values.<field>'")
    if unnamed := set(given) - set(single) if "values" not in paths else set():
        text = "is not named by update_mask"
        raise errors.InvalidArgument([errors.Violation(f"values[{name!r}]", text) for name in sorted(unnamed)])
    return Change(
        request.secret.display_name if "display_name" in others else None,
        dict(request.secret.labels) if "labels" in others else None,
        given if "values" in paths else None,
        {name: given.get(name) for name in single},
    )


def _given(request: secrets_service_pb2.UpdateSecretRequest) -> list[str]:
    paths = ["display_name"] if request.secret.display_name else []
    paths += ["labels"] if request.secret.labels else []
    return [*paths, "values"] if request.values else paths


def _secret(secret: Secret) -> secret_pb2.Secret:
    return secret_pb2.Secret(
        secret_id=secret.secret_id,
        provider=secret.provider,
        display_name=secret.display_name,
        labels=secret.labels,
        fields=secret.fields,
        version=secret.version,
        create_time=secret.create_time,
        update_time=secret.update_time,
        etag=secret.etag,
        scope=_SCOPES[secret.scope],
    )


def _resolved(reference: str, resolution: Resolution) -> secrets_service_pb2.ResolvedReference:
    match resolution.outcome:
        case Value() as value:
            return secrets_service_pb2.ResolvedReference(
                reference=reference,
                value=value.reveal(),
                version=resolution.version,
                stale=resolution.stale,
                age=_duration(resolution.age) if resolution.secret_id else None,
            )
        case Failure() as failure:
            return secrets_service_pb2.ResolvedReference(reference=reference, failure=_FAILURES[failure])


def _duration(seconds: float) -> Duration:
    return Duration(seconds=int(seconds), nanos=int(seconds % 1 * 1e9))


def _watch_response(item: Seen | SnapshotComplete | Heartbeat) -> secrets_service_pb2.WatchSecretsResponse:
    match item:
        case Seen(secret, deleted):
            change = secrets_service_pb2.SecretChange(
                secret_id=secret.secret_id,
                provider=secret.provider,
                version=secret.version,
                scope=_SCOPES[secret.scope],
                etag=secret.etag,
                deleted=deleted,
            )
            return secrets_service_pb2.WatchSecretsResponse(change=change)
        case SnapshotComplete():
            done = secrets_service_pb2.SecretsSnapshotComplete()
            return secrets_service_pb2.WatchSecretsResponse(snapshot_complete=done)
        case Heartbeat():
            return secrets_service_pb2.WatchSecretsResponse(heartbeat=secrets_service_pb2.SecretsHeartbeat())
