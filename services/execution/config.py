from typing import ClassVar

from pydantic import Field

from libs.config import Settings


class ExecutionSettings(Settings):
    service: ClassVar[str] = "execution"

    port: int = Field(50054, ge=0, le=65535, description="Port to listen on.")
    max_executions: int = Field(1000, ge=1, description="Runs at once in one process; more are refused.")
    default_timeout: float = Field(600.0, gt=0, description="Seconds a run may take when its caller does not say.")
    resume_grace: float = Field(30.0, ge=0, description="Seconds a run goes on with nobody watching it.")
    commit_window: float = Field(
        0.005, ge=0, le=1, description="Seconds that events wait for others to be committed with them."
    )
    heartbeat: float = Field(15.0, gt=0, le=300, description="Seconds of silence after which a stream says so.")
    lease: float = Field(
        15.0, gt=0.1, description="Seconds without a sign of its process after which a run counts as lost."
    )
    watch_poll: float = Field(0.2, gt=0, le=10, description="Seconds between looks at a run of another process.")
    database_patience: float = Field(
        10.0, ge=0, description="Seconds that a run outlasts a database that does not answer."
    )
