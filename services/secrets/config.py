from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import AnyHttpUrl, Field, SecretStr, field_validator
from pydantic_settings import NoDecode

from libs.config import Settings
from libs.identity import DEFAULT_TENANT

Patterns = Annotated[tuple[str, ...], NoDecode]
Labels = Annotated[tuple[tuple[str, str], ...], NoDecode]


class SecretsSettings(Settings):
    service: ClassVar[str] = "secrets"

    port: int = Field(50053, ge=0, le=65535, description="Port to listen on.")
    vault_key: SecretStr | None = Field(
        None,
        description="Base64 of the 32 bytes that the vault is locked with; default: the file vault.key in data_dir.",
    )
    vault_versions: int = Field(10, ge=1, le=1000, description="Versions of a secret that the vault keeps.")
    vault_poll: float = Field(
        0.25, gt=0, le=60, description="Seconds between looks for changes that another process made."
    )
    watch_heartbeat: float = Field(15.0, gt=0, le=300, description="Seconds of silence after which a watch says so.")
    strict_providers: bool = Field(False, description="Refuse to keep secrets of providers that are not known.")
    prefer_labels: Labels = Field(
        (), description="Labels, e.g. environment=production, by which to choose among several secrets of a provider."
    )
    cache_ttl: float = Field(300.0, gt=0, description="Seconds for which a value is served from the cache.")
    cache_max_stale: float = Field(
        3600.0, ge=0, description="Seconds for which it is served, marked as stale, while the backend does not answer."
    )
    cache_negative_ttl: float = Field(10.0, ge=0, description="Seconds for which an absence is believed.")
    cache_decision_ttl: float = Field(
        60.0, gt=0, description="Seconds after which A8N Identity is asked again whether a user's token is good."
    )
    cache_size: int = Field(10_000, ge=1, description="Entries of the cache.")
    value_readers: Patterns = Field(
        ("router", "execution"), description="Subjects of the service tokens to whom values are told."
    )
    lease_max_ttl: float = Field(86400.0, ge=1, description="Seconds that a lease may last with all its renewals.")
    wrap_max_ttl: float = Field(3600.0, ge=1, description="Seconds that a wrapping token may be good.")
    audit_fail_closed: bool = Field(
        False, description="Answer only when the audit record is written, and refuse when it cannot be."
    )
    audit_days: int = Field(90, ge=1, description="Days for which audit records are kept.")
    a8n_url: AnyHttpUrl | None = Field(None, description="A8N Identity, used instead of the vault; needs a8n_token.")
    a8n_token: SecretStr | None = Field(None, description="The suite's token for A8N Identity.")
    a8n_token_file: Path | None = Field(
        None, description="File with that token, in place of a8n_token; read again when A8N Identity refuses the token."
    )
    a8n_ca_file: Path | None = Field(None, description="PEM file of the authorities behind A8N Identity's certificate.")
    a8n_tenant: str = Field(DEFAULT_TENANT, description="The one tenant that the secrets in A8N Identity belong to.")
    a8n_timeout: float = Field(10.0, gt=0, le=300, description="Seconds that one call to A8N Identity may take.")
    a8n_retries: int = Field(3, ge=0, le=10, description="Further tries after a call that failed.")
    a8n_breaker_failures: int = Field(
        5, ge=1, description="Failed calls in a row after which none is made for some time."
    )
    a8n_breaker_seconds: float = Field(15.0, gt=0, description="That time, in seconds.")
    environment_names: Patterns = Field(
        ("*",), description="Patterns of the environment variables that references may name, e.g. OPENAI_*,GROQ_*."
    )
    environment_tenants: Patterns = Field(
        (DEFAULT_TENANT,), description="Patterns of the tenants whose references may name environment variables."
    )

    @field_validator("environment_names", "environment_tenants", "value_readers", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value

    @field_validator("prefer_labels", mode="before")
    @classmethod
    def _pairs(cls, value: Any) -> Any:
        parts = [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value
        if isinstance(parts, dict):
            return tuple(parts.items())
        if not all(isinstance(part, str) and "=" in part for part in parts):
            raise ValueError("not of the form name=value,name=value")
        return tuple(tuple(text.strip() for text in part.split("=", 1)) for part in parts)

    @field_validator("a8n_token")
    @classmethod
    def _fits_a_header(cls, value: SecretStr | None) -> SecretStr | None:
        text = value.get_secret_value() if value is not None else "-"
        if not text or not all("!" <= character <= "~" for character in text):
            raise ValueError("is empty or has a character that no token has, e.g. a line break")
        return value
