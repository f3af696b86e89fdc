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
    watch_slow_limit: float = Field(
        60.0, gt=0, le=3600, description="Seconds that a watcher may take for one message before its watch is ended."
    )
    history_retention: float = Field(
        90 * 86400.0, gt=0, description="Seconds back from now that a watch can be resumed from; revisions stay."
    )
    history_minimum: int = Field(
        1000, ge=0, description="Newest changes of a tenant that a watch can be resumed from, however old they are."
    )
    request_retention: float = Field(86400.0, ge=86400, description="Seconds for which request ids are known.")
    upkeep_interval: float = Field(
        600.0, gt=0, le=86400, description="Seconds between looks for what is older than it is kept."
    )
