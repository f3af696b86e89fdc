"""What of a deployment LiteLLM may be told, and what it must not take for itself."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable
from types import SimpleNamespace
from typing import Final

import litellm
from litellm.secret_managers import main as secret_managers

from services.router.model import Credentials, Deployment

NO_KEY: Final = "none"
"""OpenAI's client insists on a key and would take one of the environment."""
_PARAMETERS: Final = frozenset(
    {
        "api_version",
        "aws_bedrock_runtime_endpoint",
        "aws_region_name",
        "oci_compartment_id",
        "oci_region",
        "organization",
        "project_id",
        "region_name",
        "space_id",
        "vertex_location",
        "vertex_project",
    }
)
"""Others steer LiteLLM itself: to files, to the environment, to made-up answers."""
_CREDENTIALS: Final = frozenset(
    {
        "aws_access_key_id",
        "aws_secret_access_key",
        "aws_session_token",
        "azure_ad_token",
        "client_id",
        "client_secret",
        "oci_fingerprint",
        "oci_key",
        "oci_tenancy",
        "oci_user",
        "organization",
        "tenant_id",
        "token",
        "vertex_credentials",
    }
)
_NEEDED: Final = {
    "sagemaker": ("aws_access_key_id", "aws_secret_access_key"),
    "sagemaker_chat": ("aws_access_key_id", "aws_secret_access_key"),
    "vertex_ai": ("vertex_credentials",),
    "vertex_ai_beta": ("vertex_credentials",),
}
"""Without these the machine's own would be used."""
_ELSEWHERE: Final = ("oidc/", "os.environ/")
_GOOGLE: Final = frozenset({"service_account", "authorized_user"})
"""The other types of credentials read files and run programs."""


def blind() -> None:
    """LiteLLM finds no key, address or setting of its own in the environment from here on."""
    empty = SimpleNamespace(environ={}, getenv=lambda _, default=None: default, path=secret_managers.os.path)
    secret_managers.os = empty


def problem(deployment: Deployment) -> str:
    """Why the deployment cannot be called as it is configured; empty where it can."""
    if unknown := _listed(deployment.provider_parameters.keys() - _PARAMETERS):
        return f"has provider parameters that are not known: {unknown}"
    if unknown := _listed(deployment.credential_references.keys() - _CREDENTIALS):
        return f"has credentials that are not known: {unknown}"
    if any(value.startswith(_ELSEWHERE) for value in deployment.provider_parameters.values()):
        return "has a provider parameter that refers elsewhere"
    needed = _NEEDED.get(deployment.provider, ())
    if missing := _listed(set(needed) - deployment.credential_references.keys()):
        return f"lacks credentials that its provider needs: {missing}"
    return "" if _known(deployment.model) else "names a provider that LiteLLM does not know"


def unfit(credentials: Credentials) -> str:
    """Why LiteLLM must not be given the values; empty where it may."""
    if any(value.startswith(_ELSEWHERE) for value in (credentials.api_key or "", *credentials.parameters.values())):
        return "has a credential that refers elsewhere"
    if google := credentials.parameters.get("vertex_credentials"):
        return "" if _google_type(google) in _GOOGLE else "has vertex_credentials that are no service account's"
    return ""


def _google_type(value: str) -> str:
    try:
        return str(json.loads(value).get("type"))
    except (ValueError, AttributeError):
        return ""


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))


@functools.lru_cache(2000)
def _known(model: str) -> bool:
    try:
        litellm.get_llm_provider(model, api_key=NO_KEY)
    except Exception:
        return False
    return True
