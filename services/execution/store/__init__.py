from services.execution.store.executions import SqlExecutionStore
from services.execution.store.listing import SqlListing
from services.execution.store.retention import SqlRetentionStore
from services.execution.store.sessions import SqlSessionStore
from services.execution.store.tables import events, executions, metadata

__all__ = [
    "SqlExecutionStore",
    "SqlListing",
    "SqlRetentionStore",
    "SqlSessionStore",
    "events",
    "executions",
    "metadata",
]
