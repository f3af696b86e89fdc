"""libs.errors <-> google.rpc.Status: the suite's one error table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import grpc
from google.protobuf import any_pb2, duration_pb2, message
from google.rpc import code_pb2, error_details_pb2, status_pb2

from libs import errors

DOMAIN: Final = "dynamic-agents"
DETAILS_KEY: Final = "grpc-status-details-bin"
# A status travels in HTTP/2 trailers, of which gRPC takes 8 KiB; one that is larger reaches nobody.
_MOST_TEXT: Final = 256
_MOST_BYTES: Final = 4096

CODES: Final[dict[type[errors.Error], int]] = {
    errors.InvalidArgument: code_pb2.INVALID_ARGUMENT,
    errors.NotFound: code_pb2.NOT_FOUND,
    errors.AlreadyExists: code_pb2.ALREADY_EXISTS,
    errors.Aborted: code_pb2.ABORTED,
    errors.Unauthenticated: code_pb2.UNAUTHENTICATED,
    errors.PermissionDenied: code_pb2.PERMISSION_DENIED,
    errors.FailedPrecondition: code_pb2.FAILED_PRECONDITION,
    errors.OutOfRange: code_pb2.OUT_OF_RANGE,
    errors.ResourceExhausted: code_pb2.RESOURCE_EXHAUSTED,
    errors.Unavailable: code_pb2.UNAVAILABLE,
    errors.DeadlineExceeded: code_pb2.DEADLINE_EXCEEDED,
    errors.Cancelled: code_pb2.CANCELLED,
    errors.Internal: code_pb2.INTERNAL,
}
_TYPES: Final = {code: kind for kind, code in CODES.items()}
_GRPC_CODES: Final[dict[int, grpc.StatusCode]] = {code.value[0]: code for code in grpc.StatusCode}


def grpc_code(status: status_pb2.Status) -> grpc.StatusCode:
    return _GRPC_CODES[status.code]


def to_status(error: errors.Error) -> status_pb2.Status:
    metadata = {key: _short(value) for key, value in error.metadata.items()}
    details: list[message.Message] = [
        error_details_pb2.ErrorInfo(reason=error.reason_code, domain=DOMAIN, metadata=metadata)
    ]
    if isinstance(error, errors.InvalidArgument):
        details.append(_bad_request(error.violations))
    if isinstance(error, errors.NotFound | errors.AlreadyExists):
        details.append(error_details_pb2.ResourceInfo(resource_type=error.kind, resource_name=_short(error.name)))
    if isinstance(error, errors.FailedPrecondition):
        details.append(_precondition_failure(error))
    if error.retry_after is not None:
        delay = duration_pb2.Duration()
        delay.FromNanoseconds(int(error.retry_after * 1e9))
        details.append(error_details_pb2.RetryInfo(retry_delay=delay))
    status = status_pb2.Status(code=CODES[type(error)], message=_short(error.message))
    for detail in details:
        packed = any_pb2.Any()
        packed.Pack(detail)
        status.details.append(packed)
    return status


def _bad_request(violations: Sequence[errors.Violation]) -> error_details_pb2.BadRequest:
    bad = error_details_pb2.BadRequest()
    for violation in violations:
        bad.field_violations.add(field=_short(violation.field), description=_short(violation.description))
        if bad.ByteSize() > _MOST_BYTES:
            del bad.field_violations[-1]
            break
    return bad


def _precondition_failure(error: errors.FailedPrecondition) -> error_details_pb2.PreconditionFailure:
    failure = error_details_pb2.PreconditionFailure()
    failure.violations.add(type=error.reason_code, description=_short(error.message))
    return failure


def _short(text: str) -> str:
    return text if len(text) <= _MOST_TEXT else f"{text[: _MOST_TEXT - 1]}…"


def from_status(status: status_pb2.Status) -> errors.Error:
    """The error that `to_status` was given; one of another origin becomes the nearest of ours."""
    info = error_details_pb2.ErrorInfo()
    bad = error_details_pb2.BadRequest()
    resource = error_details_pb2.ResourceInfo()
    retry = error_details_pb2.RetryInfo()
    for detail in status.details:
        for target in (info, bad, resource, retry):
            if detail.Is(target.DESCRIPTOR):
                detail.Unpack(target)
    kind = _TYPES.get(status.code, errors.Internal)
    reason = info.reason or None
    metadata = dict(info.metadata)
    retry_after = retry.retry_delay.ToNanoseconds() / 1e9 if retry.HasField("retry_delay") else None
    common: dict[str, Any] = {"reason": reason, "metadata": metadata, "retry_after": retry_after}
    if kind is errors.InvalidArgument:
        violations = [errors.Violation(v.field, v.description) for v in bad.field_violations]
        return errors.InvalidArgument(violations, message=status.message, **common)
    if kind is errors.NotFound or kind is errors.AlreadyExists:
        return kind(resource.resource_type, resource.resource_name, message=status.message, **common)
    return kind(status.message, **common)


def from_rpc_error(error: grpc.aio.AioRpcError, service: str) -> errors.Error:
    """What a call to another service of the suite failed with; a peer that cannot be reached is Unavailable."""
    if described := described_by(error):
        return from_status(described)
    code = error.code().value[0]
    if code == code_pb2.UNAVAILABLE:
        return errors.Unavailable(f"service {service} does not answer", metadata={"service": service}, retry_after=1.0)
    if code == code_pb2.DEADLINE_EXCEEDED:
        return errors.DeadlineExceeded(f"service {service} did not answer in time", metadata={"service": service})
    if code == code_pb2.CANCELLED:
        return errors.Cancelled(f"the call to service {service} was cancelled")
    if code == code_pb2.RESOURCE_EXHAUSTED:
        return errors.ResourceExhausted(
            f"a message to or from service {service} is too large", reason="MESSAGE_TOO_LARGE"
        )
    return errors.Internal(f"service {service} failed", metadata={"service": service})


def described_by(error: grpc.aio.AioRpcError) -> status_pb2.Status | None:
    """What the peer itself answered; None where the channel speaks on its behalf."""
    for key, value in error.trailing_metadata() or ():
        if key == DETAILS_KEY and isinstance(value, bytes):
            return status_pb2.Status.FromString(value)
    return None
