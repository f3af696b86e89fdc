"""Proto <-> model for the Secrets service."""

from __future__ import annotations

from typing import Any, Final

import grpc
from dynamicagents.secrets.v1 import secret_pb2, secrets_service_pb2, secrets_service_pb2_grpc

from libs import identity
from services.secrets.model import Draft, Failure, Resolution, Secret, Value
from services.secrets.service import Secrets

Context = grpc.aio.ServicerContext[Any, Any]

_FAILURES: Final = {
    Failure.MALFORMED: secrets_service_pb2.RESOLUTION_FAILURE_MALFORMED,
    Failure.NOT_FOUND: secrets_service_pb2.RESOLUTION_FAILURE_NOT_FOUND,
    Failure.DENIED: secrets_service_pb2.RESOLUTION_FAILURE_DENIED,
    Failure.UNAVAILABLE: secrets_service_pb2.RESOLUTION_FAILURE_UNAVAILABLE,
}


class SecretsServicer(secrets_service_pb2_grpc.SecretsServiceServicer):
    def __init__(self, secrets: Secrets) -> None:
        self._secrets = secrets

    async def CreateSecret(
        self, request: secrets_service_pb2.CreateSecretRequest, context: Context
    ) -> secrets_service_pb2.CreateSecretResponse:
        made = await self._secrets.create(identity.current(), _draft(request), request.request_id)
        return secrets_service_pb2.CreateSecretResponse(secret=_secret(made))

    async def ListSecrets(
        self, request: secrets_service_pb2.ListSecretsRequest, context: Context
    ) -> secrets_service_pb2.ListSecretsResponse:
        found, token = await self._secrets.list(
            identity.current(), request.page_size, request.page_token, request.provider
        )
        return secrets_service_pb2.ListSecretsResponse(secrets=map(_secret, found), next_page_token=token)

    async def GetSecretValues(
        self, request: secrets_service_pb2.GetSecretValuesRequest, context: Context
    ) -> secrets_service_pb2.GetSecretValuesResponse:
        found = await self._secrets.values(identity.current(), request.secret_id)
        values = {name: value.reveal() for name, value in found.values.items()}
        return secrets_service_pb2.GetSecretValuesResponse(values=values, version=found.version)

    async def ResolveReferences(
        self, request: secrets_service_pb2.ResolveReferencesRequest, context: Context
    ) -> secrets_service_pb2.ResolveReferencesResponse:
        found = await self._secrets.resolve(identity.current(), request.references)
        return secrets_service_pb2.ResolveReferencesResponse(results=map(_resolved, found))


def _draft(request: secrets_service_pb2.CreateSecretRequest) -> Draft:
    return Draft(
        provider=request.secret.provider,
        display_name=request.secret.display_name,
        labels=dict(request.secret.labels),
        values={name: Value(text) for name, text in request.values.items()},
    )


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
    )


def _resolved(resolution: Resolution) -> secrets_service_pb2.ResolvedReference:
    match resolution.outcome:
        case Value() as value:
            return secrets_service_pb2.ResolvedReference(reference=resolution.reference, value=value.reveal())
        case Failure() as failure:
            return secrets_service_pb2.ResolvedReference(reference=resolution.reference, failure=_FAILURES[failure])
