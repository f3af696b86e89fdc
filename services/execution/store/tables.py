from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

metadata = sa.MetaData()
_json = sa.JSON(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True), "postgresql")
_time = sa.DateTime(timezone=True)

executions = sa.Table(
    "executions",
    metadata,
    sa.Column("tenant", sa.Text, primary_key=True),
    sa.Column("execution_id", sa.Text, primary_key=True),
    sa.Column("target_id", sa.Text, nullable=False),
    sa.Column("revision", sa.BigInteger, nullable=False),
    sa.Column("status", sa.Text, nullable=False),
    sa.Column("input", sa.Text, nullable=False),
    sa.Column("output", sa.Text, nullable=False),
    sa.Column("structured_output", _json),
    sa.Column("followups", _json),
    sa.Column("error", _json),
    sa.Column("usage", _json, nullable=False),
    sa.Column("session_id", sa.Text, nullable=False),
    sa.Column("user_id", sa.Text, nullable=False),
    sa.Column("metadata", _json, nullable=False),
    sa.Column("request_id", sa.Text),
    sa.Column("request_digest", sa.Text, nullable=False),
    sa.Column("last_sequence", sa.BigInteger, nullable=False),
    sa.Column("owner", sa.Text, nullable=False),
    sa.Column("lease_time", _time, nullable=False),
    sa.Column("cancel_reason", sa.Text),
    sa.Column("watch_time", _time),
    sa.Column("create_time", _time, nullable=False),
    sa.Column("end_time", _time),
    sa.Column("attempts", sa.Integer, nullable=False, server_default="1"),
    sa.Column("deaths", sa.Integer, nullable=False, server_default="0"),
    sa.Column("oldest_sequence", sa.BigInteger, nullable=False, server_default="1"),
    sa.Column("compacted", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("priority", sa.Integer, nullable=False, server_default="0"),
    sa.Column("budget", _json),
    sa.Column("session_held", sa.Text),
    sa.Column("waiting", _json),
    sa.Column("target_kind", sa.Text, nullable=False, server_default="agent"),
    sa.UniqueConstraint("tenant", "request_id", name="executions_request"),
    # A run that has begun and not ended holds its session.
    sa.Index("executions_session_held", "tenant", "session_held", unique=True),
    sa.Index("executions_running", "status", "lease_time"),
    sa.Index("executions_ended", "end_time"),
)
events = sa.Table(
    "events",
    metadata,
    sa.Column("tenant", sa.Text, primary_key=True),
    sa.Column("execution_id", sa.Text, primary_key=True),
    sa.Column("sequence", sa.BigInteger, primary_key=True),
    sa.Column("time", _time, nullable=False),
    sa.Column("path", _json, nullable=False),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("payload", _json, nullable=False),
    sa.Column("scope", sa.Text, nullable=False, server_default=""),
)
jobs = sa.Table(
    "jobs",
    metadata,
    sa.Column("tenant", sa.Text, primary_key=True),
    sa.Column("execution_id", sa.Text, primary_key=True),
    sa.Column("request", sa.Text, nullable=False),
    sa.Column("pinned", sa.Text, nullable=False),
    sa.Column("subject", sa.Text, nullable=False),
    sa.Column("deadline", _time, nullable=False),
)
journal = sa.Table(
    "journal",
    metadata,
    sa.Column("tenant", sa.Text, primary_key=True),
    sa.Column("execution_id", sa.Text, primary_key=True),
    sa.Column("scope", sa.Text, primary_key=True, server_default=""),
    sa.Column("step", sa.Integer, primary_key=True),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("call_id", sa.Text, nullable=False),
    sa.Column("digest", sa.Text, nullable=False),
    sa.Column("result", _json),
    sa.Column("is_error", sa.Boolean, nullable=False),
    sa.Column("start_time", _time, nullable=False),
    sa.Column("end_time", _time),
    sa.Column("end_sequence", sa.BigInteger, nullable=False),
)
answers = sa.Table(
    "answers",
    metadata,
    sa.Column("tenant", sa.Text, primary_key=True),
    sa.Column("execution_id", sa.Text, primary_key=True),
    sa.Column("input_id", sa.Text, primary_key=True),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("answer", _json, nullable=False),
    sa.Column("request_id", sa.Text, nullable=False),
    sa.Column("subject", sa.Text, nullable=False),
    sa.Column("create_time", _time, nullable=False),
)
hosts = sa.Table(
    "hosts",
    metadata,
    sa.Column("tenant", sa.Text, primary_key=True),
    sa.Column("host_id", sa.Text, primary_key=True),
    sa.Column("registration_id", sa.Text, nullable=False, unique=True),
    sa.Column("stream_id", sa.Text, nullable=False),
    sa.Column("owner", sa.Text, nullable=False),
    sa.Column("address", sa.Text, nullable=False),
    # As text: the properties of a schema keep their order.
    sa.Column("tools", sa.Text, nullable=False),
    sa.Column("max_concurrency", sa.Integer, nullable=False),
    sa.Column("register_time", _time, nullable=False),
    sa.Column("lease_time", _time, nullable=False),
    sa.Index("hosts_owner", "owner"),
)
