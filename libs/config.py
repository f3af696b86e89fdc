"""Settings: environment over dynamic-agents.yaml over defaults, typed, frozen, read once.

Each setting can be given for all services (`DYNAMIC_AGENTS_LOG_LEVEL`, `log_level:`) or for one
(`DYNAMIC_AGENTS_REGISTRY_LOG_LEVEL`, `registry: {log_level: ...}`); the one wins.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, ClassVar, Final, Literal, Self

import yaml
from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

PREFIX: Final = "DYNAMIC_AGENTS_"
SERVICES: Final = ("registry", "router", "secrets", "execution")


class StartError(Exception):
    """Why a process cannot start, in one line for the operator."""


class Settings(BaseSettings):
    """What every service can be told."""

    model_config = SettingsConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)
    service: ClassVar[str]

    host: str = Field("127.0.0.1", description="Address to listen on; any but loopback needs authentication.")
    port: int = Field(0, ge=0, le=65535, description="Port to listen on.")
    workers: int = Field(1, ge=1, le=64, description="Processes that share the port.")
    data_dir: Path = Field(Path(".dynamic-agents"), description="Folder of embedded databases, keys and logs.")
    database_url: SecretStr | None = Field(
        None, description="postgresql+asyncpg://... or sqlite+aiosqlite:///...; default: SQLite in data_dir."
    )
    database_pool_size: int = Field(10, ge=1, le=200, description="Connections of one process.")
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["json", "console"] = "json"
    otlp_endpoint: str | None = Field(None, description="OpenTelemetry collector, e.g. http://127.0.0.1:4317.")
    trace_sample_ratio: float = Field(
        1.0, ge=0, le=1, description="Part of the traces that begin here which is recorded; others go by their caller."
    )
    trace_payloads: bool = Field(False, description="Put what users, models and tools say into traces.")
    metrics_port: int | None = Field(
        None,
        ge=0,
        le=65535,
        description="Port of the Prometheus endpoint, each further worker's one higher; unset: none.",
    )
    metrics_labels: frozenset[Literal["tenant", "agent"]] = Field(
        frozenset(), description="Names to tell apart in metrics: tenant, agent. Each multiplies the series."
    )
    drain_grace: float = Field(10.0, ge=0, le=3600, description="Seconds that calls in flight get on SIGTERM.")
    max_message_bytes: int = Field(4 * 1024 * 1024, ge=65536, description="Largest message of a call, in bytes.")
    jwt_secret: SecretStr | None = Field(None, description="Shared secret of HS256 tokens.")
    jwt_public_key_file: Path | None = Field(None, description="PEM file of the key that signs callers' tokens.")
    jwt_issuer: str | None = None
    jwt_audience: str | None = None
    service_token: SecretStr | None = Field(
        None, description="Token with the scope `service`, for this service's calls to the others."
    )
    registry_address: str = "127.0.0.1:50051"
    router_address: str = "127.0.0.1:50052"
    secrets_address: str = "127.0.0.1:50053"

    @property
    def database(self) -> str:
        if self.database_url is not None:
            return self.database_url.get_secret_value()
        return f"sqlite+aiosqlite:///{self.data_dir / self.service}.db"

    @property
    def embedded(self) -> bool:
        return self.database.startswith("sqlite")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (
            init_settings,
            EnvSettingsSource(settings_cls, env_prefix=f"{PREFIX}{cls.service.upper()}_"),
            EnvSettingsSource(settings_cls, env_prefix=PREFIX),
            InitSettingsSource(settings_cls, _from_yaml(cls)),
        )

    @classmethod
    def load(cls, **overrides: Any) -> Self:
        """Reads the settings once; a bad one raises StartError with its name."""
        try:
            return cls(**overrides)
        except SettingsError as error:
            raise StartError(f"bad setting of {cls.service}: {error}") from None
        except ValidationError as error:
            first = error.errors()[0]
            name = ".".join(map(str, first["loc"]))
            raise StartError(f"bad setting {name} of {cls.service}: {first['msg']}") from None


def _from_yaml(cls: type[Settings]) -> dict[str, Any]:
    named = os.environ.get(f"{PREFIX}CONFIG")
    path = Path(named or "dynamic-agents.yaml")
    if not path.exists():
        if named:
            raise StartError(f"{PREFIX}CONFIG names {path}, which does not exist")
        return {}
    try:
        content = yaml.safe_load(path.read_text()) or {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise StartError(f"cannot read {path}: {str(error).splitlines()[0]}") from None
    if not isinstance(content, dict):
        raise StartError(f"{path}: not a mapping of settings")
    section = content.get(cls.service) or {}
    if not isinstance(section, dict):
        raise StartError(f"{path}: {cls.service} is not a mapping of settings")
    general = {key: value for key, value in content.items() if key not in SERVICES}
    for key in [*general, *section]:
        known = Settings.model_fields if key in general else cls.model_fields
        if key not in known:
            raise StartError(f"{path}: unknown setting {key}")
    return {**general, **section}
