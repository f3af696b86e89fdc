"""The references that configurations make to credentials, and the variables that stand for them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from fnmatch import fnmatchcase
from typing import Final

from services.secrets.model import Scope, Value, is_text

_ENVIRONMENT: Final = re.compile(r"os\.environ/([A-Za-z_][A-Za-z0-9_]*)")
_SECRET: Final = re.compile(
    r"(secret|user):([a-z0-9][a-z0-9_-]{0,62})(?:/([A-Za-z0-9][A-Za-z0-9._ -]{0,199}))?:([A-Za-z0-9_]{1,63})"
)
_SCOPES: Final = {"secret": Scope.SYSTEM, "user": Scope.USER}
_OWN_VARIABLES: Final = ("DYNAMIC_AGENTS_", "A8N_")


@dataclass(frozen=True, slots=True)
class EnvironmentReference:
    name: str


@dataclass(frozen=True, slots=True)
class SecretReference:
    provider: str
    field: str
    name: str = ""
    scope: Scope = Scope.SYSTEM


Reference = EnvironmentReference | SecretReference


class Failure(Enum):
    MALFORMED = auto()
    NOT_FOUND = auto()
    DENIED = auto()
    UNAVAILABLE = auto()


@dataclass(frozen=True, slots=True)
class Resolution:
    outcome: Value | Failure
    secret_id: str = ""
    version: int = 0
    age: float = 0.0
    stale: bool = False
    cached: bool = False


VARIABLES: Final[Mapping[str, SecretReference]] = {
    "ANTHROPIC_API_KEY": SecretReference("anthropic", "api_key"),
    "AWS_ACCESS_KEY_ID": SecretReference("bedrock", "aws_access_key_id"),
    "AWS_REGION_NAME": SecretReference("bedrock", "aws_region_name"),
    "AWS_SECRET_ACCESS_KEY": SecretReference("bedrock", "aws_secret_access_key"),
    "AWS_SESSION_TOKEN": SecretReference("bedrock", "aws_session_token"),
    "AZURE_API_BASE": SecretReference("azure_openai", "endpoint"),
    "AZURE_API_KEY": SecretReference("azure_openai", "api_key"),
    "AZURE_API_VERSION": SecretReference("azure_openai", "api_version"),
    "AZURE_OPENAI_API_KEY": SecretReference("azure_openai", "api_key"),
    "AZURE_OPENAI_API_VERSION": SecretReference("azure_openai", "api_version"),
    "AZURE_OPENAI_ENDPOINT": SecretReference("azure_openai", "endpoint"),
    "DISCORD_APPLICATION_ID": SecretReference("discord", "application_id"),
    "DISCORD_BOT_TOKEN": SecretReference("discord", "bot_token"),
    "GEMINI_API_KEY": SecretReference("google", "api_key"),
    "GOOGLE_API_KEY": SecretReference("google", "api_key"),
    "GROQ_API_KEY": SecretReference("groq", "api_key"),
    "OPENAI_API_KEY": SecretReference("openai", "api_key"),
    "OPENAI_ORGANIZATION": SecretReference("openai", "org_id"),
    "OPENAI_ORG_ID": SecretReference("openai", "org_id"),
    "SLACK_APP_TOKEN": SecretReference("slack", "app_token"),
    "SLACK_BOT_TOKEN": SecretReference("slack", "bot_token"),
    "USER_OPENAI_API_KEY": SecretReference("openai", "api_key", scope=Scope.USER),
}
"""The names that LiteLLM and the providers' own tools use."""


@dataclass(frozen=True, slots=True)
class Environment:
    """The process's variables, as far as references may name them."""

    variables: Mapping[str, str] = field(repr=False)
    names: tuple[str, ...]
    tenants: tuple[str, ...]

    def get(self, tenant: str, name: str) -> Value | Failure:
        if name.upper().startswith(_OWN_VARIABLES) or not _matches(name, self.names):
            return Failure.DENIED
        if not _matches(tenant, self.tenants):
            return Failure.DENIED
        text = self.variables.get(name)
        return Value(text) if text and is_text(text) else Failure.NOT_FOUND


def _matches(text: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(text, pattern) for pattern in patterns)


def parse(text: str) -> Reference | None:
    """The reference that `text` is; None if it is none."""
    if match := _ENVIRONMENT.fullmatch(text):
        return EnvironmentReference(match[1])
    if match := _SECRET.fullmatch(text):
        scheme, provider, name, field = match.groups(default="")
        return SecretReference(provider, field, name, _SCOPES[scheme])
    return None
