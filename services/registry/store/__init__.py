from services.registry.store.audit import SqlAuditStore
from services.registry.store.feedback import SqlFeedbackStore
from services.registry.store.resources import SqlResourceStore
from services.registry.store.retention import SqlRetentionStore
from services.registry.store.tables import metadata

__all__ = ["SqlAuditStore", "SqlFeedbackStore", "SqlResourceStore", "SqlRetentionStore", "metadata"]
