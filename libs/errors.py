"""The errors of the domain. libs/status.py is the one table from them to gRPC codes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar


@dataclass(frozen=True, slots=True)
class Violation:
    """A field that breaks a rule; `field` is its path in the request, e.g. `agent.spec.model.model`."""

    field: str
    description: str


class Error(Exception):
    """What a caller may be told. `reason` is a value of errors.v1.ErrorReason without its prefix."""

    reason: ClassVar[str] = "INTERNAL"

    def __init__(
        self,
        message: str,
        *,
        reason: str | None = None,
        metadata: Mapping[str, str] | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.reason_code = reason or self.reason
        self.metadata = dict(metadata or {})
        self.retry_after = retry_after


class InvalidArgument(Error):
    reason = "INVALID_FIELD"

    def __init__(self, violations: Sequence[Violation], *, message: str | None = None, **kwargs: Any) -> None:
        super().__init__(message or "; ".join(f"{v.field}: {v.description}" for v in violations), **kwargs)
        self.violations = tuple(violations)


class NotFound(Error):
    reason = "RESOURCE_NOT_FOUND"

    def __init__(self, kind: str, name: str, *, message: str | None = None, **kwargs: Any) -> None:
        super().__init__(message or f"no {kind.replace('_', ' ')} {name!r}", **kwargs)
        self.kind, self.name = kind, name


class AlreadyExists(Error):
    reason = "RESOURCE_EXISTS"

    def __init__(self, kind: str, name: str, *, message: str | None = None, **kwargs: Any) -> None:
        super().__init__(message or f"{kind.replace('_', ' ')} {name!r} exists already", **kwargs)
        self.kind, self.name = kind, name


class Aborted(Error):
    reason = "STALE_ETAG"


class Unauthenticated(Error):
    reason = "CREDENTIAL_INVALID"


class PermissionDenied(Error):
    reason = "SCOPE_MISSING"


class FailedPrecondition(Error):
    reason = "NOT_SUPPORTED"


class OutOfRange(Error):
    reason = "RESUME_TOKEN_EXPIRED"


class ResourceExhausted(Error):
    reason = "TOO_MANY_EXECUTIONS"


class Unavailable(Error):
    reason = "SERVICE_UNAVAILABLE"


class DeadlineExceeded(Error):
    reason = "DEADLINE_EXCEEDED"


class Cancelled(Error):
    reason = "CANCELLED"


class Internal(Error):
    """A defect. The message is shown to callers, so it says nothing of the cause."""

    reason = "INTERNAL"


def invalid(field: str, description: str, *, reason: str | None = None) -> InvalidArgument:
    return InvalidArgument([Violation(field, description)], reason=reason)


def to_dict(error: Error) -> dict[str, Any]:
    """The error as JSON data, for keeping."""
    kept: dict[str, Any] = {
        "type": type(error).__name__,
        "message": error.message,
        "reason": error.reason_code,
        "metadata": error.metadata,
        "retry_after": error.retry_after,
    }
    if isinstance(error, InvalidArgument):
        kept["violations"] = [[v.field, v.description] for v in error.violations]
    if isinstance(error, NotFound | AlreadyExists):
        kept |= {"kind": error.kind, "name": error.name}
    return kept


def from_dict(kept: Mapping[str, Any]) -> Error:
    """The error that `to_dict` was given."""
    kind = next(k for k in Error.__subclasses__() if k.__name__ == kept["type"])
    error = kind.__new__(kind)
    Error.__init__(
        error,
        kept["message"],
        reason=kept["reason"],
        metadata=kept["metadata"],
        retry_after=kept["retry_after"],
    )
    if isinstance(error, InvalidArgument):
        error.violations = tuple(Violation(*pair) for pair in kept["violations"])
    if isinstance(error, NotFound | AlreadyExists):
        error.kind, error.name = kept["kind"], kept["name"]
    return error
