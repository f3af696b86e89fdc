from typing import ClassVar

from pydantic import Field

from libs.config import Settings


class RegistrySettings(Settings):
    service: ClassVar[str] = "registry"

    port: int = Field(50051, ge=0, le=65535, description="Port to listen on.")
    watch_poll: float = Field(
        0.25, gt=0, le=60, description="Seconds between looks for changes that another process committed."
    )
    watch_heartbeat: float = Field(15.0, gt=0, le=300, description="Seconds of silence after which a watch says so.")
