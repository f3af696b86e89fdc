"""libs.errors <-> google.rpc.Status: the suite's one error table."""

from __future__ import annotations

from typing import Final

import grpc
from google.protobuf import any_pb2, duration_pb2, message
from google.rpc import code_pb2, error_details_pb2, status_pb2

from libs import errors

DOMAIN: Final = "dynamic-agents"
DETAILS_KEY: Final = "grpc-status-details-bin"

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
    details: list[message.Message] = [
        error_details_pb2.ErrorInfo(reason=error.reason_code, domain=DOMAIN, metadata=error.metadata)
    ]
    if isinstance(error, errors.InvalidArgument):
        details.append(
            error_details_pb2.BadRequest(
                field_violations=[
                    error_details_pb2.BadRequest.FieldViolation(field=v.field, description=v.description)
                    for v in error.violations
                ]
            )
        )
    if isinstance(error, errors.NotFound | errors.AlreadyExists):
        details.append(
            error_details_pb2.ResourceInfo(
                resource_type=error.kind, resource_name=error.name, description=error.message
            )
        )
    if error.retry_after is not None:
        delay = duration_pb2.Duration()
        delay.FromNanoseconds(int(error.retry_after * 1e9))
        details.append(error_details_pb2.RetryInfo(retry_delay=delay))
    status = status_pb2.Status(code=CODES[type(error)], message=error.message)
    for detail in details:
        packed = any_pb2.Any()
        packed.Pack(detail)
        status.details.append(packed)
    return status


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
    if kind is errors.InvalidArgument:
        violations = [errors.Violation(v.field, v.description) for v in bad.field_violations]
        error: errors.Error = errors.InvalidArgument(violations, reason=reason, metadata=metadata)
        error.message = status.message or error.message
        return error
    if kind is errors.NotFound:
        return errors.NotFound(
            resource.resource_type, resource.resource_name, message=status.message, reason=reason, metadata=metadata
        )
    if kind is errors.AlreadyExists:
        return errors.AlreadyExists(resource.resource_type, resource.resource_name)
    return kind(status.message, reason=reason, metadata=metadata, retry_after=retry_after)


def from_rpc_error(error: grpc.aio.AioRpcError, service: str) -> errors.Error:
    """What a call to another service of the suite failed with; a peer that cannot be reached is Unavailable."""
    for key, value in error.trailing_metadata() or ():
        if key == DETAILS_KEY and isinstance(value, bytes):
            return from_status(status_pb2.Status.FromString(value))
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


def is_from_peer(error: grpc.aio.AioRpcError) -> bool:
    """Whether the peer itself answered with this error, rather than the channel on its behalf."""
    return any(key == DETAILS_KEY for key, _ in error.trailing_metadata() or ())
