from typing import ClassVar

from pydantic import Field

from libs.config import Settings


class RouterSettings(Settings):
    service: ClassVar[str] = "router"

    port: int = Field(50052, ge=0, le=65535, description="Port to listen on.")
    offline: bool = Field(True, description="Serve the group `offline`, a model that needs no network and no key.")
    offline_delay: float = Field(0.0, ge=0, le=60, description="Seconds that the offline model takes for each word.")
    max_watches: int = Field(1000, ge=1, le=100_000, description="Tenants whose configuration is followed at a time.")
