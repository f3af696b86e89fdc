from __future__ import annotations

from datetime import UTC, datetime
from typing import Literal

from dynamicagents.registry.v1 import audit_service_pb2, audit_service_pb2_grpc
from google.protobuf.timestamp_pb2 import Timestamp

from libs import errors, identity
from services.registry.service.audit import Audit, AuditEntry, AuditFilter
from services.registry.servicer.translation import KIND_NUMBERS, KINDS, Context


class AuditServicer(audit_service_pb2_grpc.AuditServiceServicer):
    def __init__(self, audit: Audit) -> None:
        self._audit = audit

    async def ListAuditEntries(
        self, request: audit_service_pb2.ListAuditEntriesRequest, context: Context
    ) -> audit_service_pb2.ListAuditEntriesResponse:
        found, token = await self._audit.list(
            identity.current(), _filter(request), request.page_size, request.page_token
        )
        return audit_service_pb2.ListAuditEntriesResponse(entries=map(_entry, found), next_page_token=token)

    async def VerifyAudit(
        self, request: audit_service_pb2.VerifyAuditRequest, context: Context
    ) -> audit_service_pb2.VerifyAuditResponse:
        verdict = await self._audit.verify(identity.current())
        return audit_service_pb2.VerifyAuditResponse(
            valid=not verdict.reason,
            entries=verdict.entries,
            broken_position=verdict.broken_position,
            reason=verdict.reason,
        )


def _filter(request: audit_service_pb2.ListAuditEntriesRequest) -> AuditFilter:
    return AuditFilter(
        kind=KINDS.get(request.kind),
        resource_id=request.resource_id,
        start_time=_time(request, "start_time"),
        end_time=_time(request, "end_time"),
    )


def _time(
    request: audit_service_pb2.ListAuditEntriesRequest, field: Literal["start_time", "end_time"]
) -> datetime | None:
    try:
        return getattr(request, field).ToDatetime(UTC) if request.HasField(field) else None
    except (ValueError, OverflowError):
        raise errors.invalid(field, "is not a time from year 1 to 9999") from None


def _entry(entry: AuditEntry) -> audit_service_pb2.AuditEntry:
    time = Timestamp()
    time.FromDatetime(entry.time)
    return audit_service_pb2.AuditEntry(
        position=entry.position,
        author=entry.author,
        time=time,
        kind=KIND_NUMBERS[entry.kind],
        resource_id=entry.resource_id,
        revision=entry.revision,
        deleted=entry.deleted,
        before_digest=entry.before_digest,
        after_digest=entry.after_digest,
        hash=entry.hash,
    )
