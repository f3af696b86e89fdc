"""Who may do what."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from libs import errors
from libs.identity import SERVICE_SCOPE, Caller
from services.secrets.model import Owner

READ: Final = "secrets.read"
WRITE: Final = "secrets.write"
VALUES: Final = "secrets.values"


def allows(caller: Caller, scope: str, provider: str) -> bool:
    """A service has every scope, but for those that its token has for some providers alone."""
    scopes = caller.scopes
    if scope in scopes or "*" in scopes or f"{scope}:{provider}" in scopes:
        return True
    return SERVICE_SCOPE in scopes and not _has_some(caller, scope)


def allows_any(caller: Caller, scope: str) -> bool:
    """Whether there is a provider for which it is allowed."""
    return allows(caller, scope, "") or _has_some(caller, scope)


def _has_some(caller: Caller, scope: str) -> bool:
    return any(each.startswith(f"{scope}:") for each in caller.scopes)


def may_read(caller: Caller, readers: Collection[str] | None) -> bool:
    """Values are for these services; None is everybody, where nobody has credentials."""
    return readers is None or caller.service in readers


def no_reader() -> errors.PermissionDenied:
    return errors.PermissionDenied(
        "values are for the services that value_readers names", metadata={"scope": SERVICE_SCOPE}
    )


def missing(scope: str) -> errors.PermissionDenied:
    return errors.PermissionDenied(f"scope {scope} is missing", metadata={"scope": scope})


def system(caller: Caller) -> Owner:
    return Owner(caller.tenant)


def user(caller: Caller) -> Owner:
    """The caller's own. The token of a service that acts for it is not the caller's."""
    return Owner(caller.tenant, caller.subject, caller.own_token)
