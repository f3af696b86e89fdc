from typing import Annotated, Any, ClassVar

from pydantic import AnyHttpUrl, Field, SecretStr, field_validator
from pydantic_settings import NoDecode

from libs.config import Settings
from libs.identity import DEFAULT_TENANT

Patterns = Annotated[tuple[str, ...], NoDecode]


class SecretsSettings(Settings):
    service: ClassVar[str] = "secrets"

    port: int = Field(50053, ge=0, le=65535, description="Port to listen on.")
    vault_key: SecretStr | None = Field(
        None,
        description="Base64 of the 32 bytes that the vault is locked with; default: the file vault.key in data_dir.",
    )
    a8n_url: AnyHttpUrl | None = Field(None, description="A8N Identity, used instead of the vault; needs a8n_token.")
    a8n_token: SecretStr | None = Field(None, description="The suite's token for A8N Identity.")
    a8n_tenant: str = Field(DEFAULT_TENANT, description="The one tenant that the secrets in A8N Identity belong to.")
    a8n_timeout: float = Field(10.0, gt=0, le=300, description="Seconds that one call to A8N Identity may take.")
    a8n_retries: int = Field(3, ge=0, le=10, description="Further tries after a call that failed.")
    environment_names: Patterns = Field(
        ("*",), description="Patterns of the environment variables that references may name, e.g. OPENAI_*,GROQ_*."
    )
    environment_tenants: Patterns = Field(
        (DEFAULT_TENANT,), description="Patterns of the tenants whose references may name environment variables."
    )

    @field_validator("environment_names", "environment_tenants", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value

    @field_validator("a8n_token")
    @classmethod
    def _fits_a_header(cls, value: SecretStr | None) -> SecretStr | None:
        text = value.get_secret_value() if value is not None else "-"
        if not text or not all("!" <= character <= "~" for character in text):
            raise ValueError("is empty or has a character that no token has, e.g. a line break")
        return value
