"""Values of references, from Secrets, when they are needed and no longer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from dynamicagents.secrets.v1 import secrets_service_pb2, secrets_service_pb2_grpc

from libs import client, errors

_REFERENCE: Final = "secret:"
_WHY: Final = {
    secrets_service_pb2.RESOLUTION_FAILURE_MALFORMED: "it is malformed",
    secrets_service_pb2.RESOLUTION_FAILURE_NOT_FOUND: "nothing is there",
    secrets_service_pb2.RESOLUTION_FAILURE_DENIED: "it may not be read",
}


class SecretsGateway:
    def __init__(self, stub: secrets_service_pb2_grpc.SecretsServiceAsyncStub) -> None:
        self._stub = stub

    async def resolved(self, values: Mapping[str, str], *, refresh: bool = False) -> dict[str, str]:
        """The same with the value in place of each reference."""
        references = sorted({value for value in values.values() if value.startswith(_REFERENCE)})
        if not references:
            return dict(values)
        request = secrets_service_pb2.ResolveReferencesRequest(references=references, refresh=refresh)
        with client.translated("secrets"):
            response = await self._stub.ResolveReferences(request)
        found = {result.reference: result for result in response.results}
        return {
            name: _value(value, found.get(value)) if value.startswith(_REFERENCE) else value
            for name, value in values.items()
        }


def _value(reference: str, result: secrets_service_pb2.ResolvedReference | None) -> str:
    if result is not None and result.WhichOneof("outcome") == "value":
        return result.value
    if result is not None and result.failure == secrets_service_pb2.RESOLUTION_FAILURE_UNAVAILABLE:
        raise errors.Unavailable(
            "the backend of service secrets does not answer", metadata={"service": "secrets"}, retry_after=1.0
        )
    why = _WHY.get(result.failure, "no value came") if result is not None else "no value came"
    raise errors.FailedPrecondition(
        f"the reference {reference!r} cannot be resolved: {why}",
        reason="SECRET_UNRESOLVED",
        metadata={"reference": reference},
    )
