from pathlib import Path
from typing import ClassVar

from pydantic import Field, SecretStr

from libs.config import Settings


class RouterSettings(Settings):
    service: ClassVar[str] = "router"

    port: int = Field(50052, ge=0, le=65535, description="Port to listen on.")
    max_message_bytes: int = Field(32 * 1024 * 1024, ge=65536, description="Largest message of a call, in bytes.")
    offline: bool = Field(True, description="Serve the group `offline`, a model that needs no network and no key.")
    offline_delay: float = Field(0.0, ge=0, le=60, description="Seconds that the offline model takes for each word.")
    max_watches: int = Field(1000, ge=1, le=100_000, description="Tenants whose configuration is followed at a time.")
    redis_url: SecretStr | None = Field(
        None, description="Redis that the Router's replicas share limits, cooldowns, spending and health through."
    )
    redis_prefix: str = Field("dynamic-agents:", max_length=100, description="What the names of its keys begin with.")
    max_health_watchers: int = Field(10_000, ge=1, le=1_000_000, description="Open Health streams at a time.")
    openai_port: int | None = Field(
        None, ge=0, le=65535, description="Port of the HTTP door in the shape of OpenAI's API; unset: none."
    )
    record_dir: Path | None = Field(None, description="Folder to which exchanges with providers are written, no keys.")
    replay_dir: Path | None = Field(None, description="Folder of recordings to answer from; no provider is asked.")
