"""Who may do what."""

from __future__ import annotations

from typing import Final

from libs import errors
from libs.identity import SERVICE_SCOPE, Caller
from services.secrets.model import Owner

READ: Final = "secrets.read"
WRITE: Final = "secrets.write"
VALUES: Final = "secrets.values"


def allows(caller: Caller, scope: str, provider: str) -> bool:
    scopes = caller.scopes
    return scope in scopes or SERVICE_SCOPE in scopes or "*" in scopes or f"{scope}:{provider}" in scopes


def allows_any(caller: Caller, scope: str) -> bool:
    """Whether there is a provider for which it is allowed."""
    return allows(caller, scope, "") or any(each.startswith(f"{scope}:") for each in caller.scopes)


def missing(scope: str) -> errors.PermissionDenied:
    return errors.PermissionDenied(f"scope {scope} is missing", metadata={"scope": scope})


def system(caller: Caller) -> Owner:
    return Owner(caller.tenant)


def user(caller: Caller) -> Owner:
    """The caller's own. A token that acts for others is not the caller's."""
    return Owner(caller.tenant, caller.subject, "" if SERVICE_SCOPE in caller.scopes else caller.token)
