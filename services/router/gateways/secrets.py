"""Keys, from Secrets, when they are needed and no longer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from dynamicagents.secrets.v1 import secrets_service_pb2, secrets_service_pb2_grpc

from libs import client, errors

_WHY: Final = {
    secrets_service_pb2.RESOLUTION_FAILURE_MALFORMED: "it is malformed",
    secrets_service_pb2.RESOLUTION_FAILURE_NOT_FOUND: "nothing is there",
    secrets_service_pb2.RESOLUTION_FAILURE_DENIED: "it may not be read",
}


class SecretsGateway:
    def __init__(self, stub: secrets_service_pb2_grpc.SecretsServiceAsyncStub) -> None:
        self._stub = stub

    async def resolve(self, references: Sequence[str], *, refresh: bool = False) -> Sequence[str]:
        request = secrets_service_pb2.ResolveReferencesRequest(references=references, refresh=refresh)
        with client.translated("secrets"):
            response = await self._stub.ResolveReferences(request)
        found = {result.reference: result for result in response.results}
        return [_value(reference, found.get(reference)) for reference in references]


def _value(reference: str, result: secrets_service_pb2.ResolvedReference | None) -> str:
    if result is None:
        raise _unresolved(reference, "no value came")
    if result.WhichOneof("outcome") == "value":
        return result.value
    if result.failure == secrets_service_pb2.RESOLUTION_FAILURE_UNAVAILABLE:
        raise errors.Unavailable(
            "the backend of service secrets does not answer", metadata={"service": "secrets"}, retry_after=1.0
        )
    raise _unresolved(reference, _WHY.get(result.failure, "no value came"))


def _unresolved(reference: str, why: str) -> errors.Error:
    return errors.FailedPrecondition(
        f"the key reference {reference!r} cannot be resolved: {why}",
        reason="SECRET_UNRESOLVED",
        metadata={"reference": reference},
    )
