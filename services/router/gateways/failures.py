"""The table of RouterService. What a provider said stays here: it may repeat the key."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any, Final

import litellm
import structlog
from litellm.litellm_core_utils.exception_mapping_utils import exception_type

from libs import errors
from services.router.model import Deployment, Failure

log = structlog.get_logger()

_LONGEST_RETRY_AFTER: Final = 3600.0
_RETRY_DELAY: Final = re.compile(r"retryDelay\W+(\d+(?:\.\d+)?)s")
"""Google says it in the body."""


def mapped(deployment: Deployment, provider: str, original: Exception) -> Exception:
    """LiteLLM's error for what a provider's configuration makes of a refusal."""
    try:
        return exception_type(model=deployment.model, original_exception=original, custom_llm_provider=provider)  # type: ignore[no-any-return]
    except Exception as error:
        return error


def failure(deployment: Deployment, error: Exception, headers: Mapping[str, str] | None = None) -> Failure:
    error = getattr(error, "original_exception", None) or error
    status = getattr(error, "status_code", None)
    log.warning("provider failed", deployment_id=deployment.deployment_id, kind=type(error).__name__, status=status)
    name, metadata = f"deployment {deployment.deployment_id}", {"deployment_id": deployment.deployment_id}
    if isinstance(error, litellm.ContextWindowExceededError):
        text = f"{name}: the conversation is longer than the model's context"
        return Failure(
            errors.InvalidArgument([], message=text, reason="CONTEXT_WINDOW_EXCEEDED", metadata=metadata),
            may_pass=False,
            status=status,
        )
    if isinstance(error, litellm.ContentPolicyViolationError):
        text = f"{name}: the provider's policy refused the content"
        refused = errors.FailedPrecondition(text, reason="CONTENT_POLICY", metadata=metadata)
        return Failure(refused, may_pass=False, status=status)
    match status:
        case 401 | 403:
            text = f"{name}: the provider refused the key (status {status})"
            refused_key = errors.Internal(text, reason="UPSTREAM_AUTH", metadata=metadata)
            return Failure(refused_key, may_pass=False, status=status)
        case 402 | 429:
            limited = errors.ResourceExhausted(
                f"{name}: the provider limits the rate (status {status})",
                reason="UPSTREAM_RATE_LIMITED",
                metadata=metadata,
                retry_after=_retry_after(error, headers) if status == 429 else None,
            )
            return Failure(limited, may_pass=status == 429, status=status)
        case 408 | 504:
            late = errors.DeadlineExceeded(f"{name} did not answer in time", metadata=metadata)
            return Failure(late, may_pass=True, status=status)
        case int() if 400 <= status < 500 and status != 409:
            text = f"{name}: the provider found the request malformed (status {status})"
            malformed = errors.InvalidArgument([], message=text, reason="UPSTREAM_REJECTED", metadata=metadata)
            return Failure(malformed, may_pass=False, status=status)
    retry_after = _retry_after(error, headers) if status == 503 else None
    return unavailable(deployment, "cannot be reached or failed", status=status, retry_after=retry_after)


def unavailable(
    deployment: Deployment, what: str, *, status: int | None = None, retry_after: float | None = None
) -> Failure:
    error = errors.Unavailable(
        f"deployment {deployment.deployment_id}: the provider {what}",
        reason="UPSTREAM_UNAVAILABLE",
        metadata={"deployment_id": deployment.deployment_id},
        retry_after=retry_after,
    )
    return Failure(error, may_pass=True, status=status)


def unsupported(deployment: Deployment, what: str) -> Failure:
    text = f"deployment {deployment.deployment_id} {what}"
    metadata = {"deployment_id": deployment.deployment_id}
    return Failure(errors.FailedPrecondition(text, metadata=metadata), may_pass=False)


def incapable(deployment: Deployment, capability: str) -> Failure:
    text = f"deployment {deployment.deployment_id} lacks a capability that the request needs: {capability}"
    metadata = {"capability": capability, "model_group": deployment.model_group}
    return Failure(errors.FailedPrecondition(text, reason="CAPABILITY_MISSING", metadata=metadata), may_pass=False)


def _retry_after(error: Any, headers: Mapping[str, str] | None) -> float | None:
    if headers is None:
        headers = getattr(error, "litellm_response_headers", None) or {}
    given = headers.get("retry-after", "")
    if not given and (found := _RETRY_DELAY.search(str(error))):
        given = found[1]
    seconds = _seconds(given)
    return None if seconds is None else min(max(0.0, seconds), _LONGEST_RETRY_AFTER)  # so that nan is 0


def _seconds(given: str) -> float | None:
    """Both forms of the header: a number, or a date."""
    try:
        return float(given)
    except ValueError:
        pass
    try:
        return parsedate_to_datetime(given).timestamp() - time.time()
    except (TypeError, ValueError):
        return None
