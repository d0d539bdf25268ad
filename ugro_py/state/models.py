"""The tables of the state database. Schema changes go through a revision in `migrations/versions`.

SQLAlchemy Core, not its ORM: the store hands out frozen rows, and Core loads in less time.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    false,
    true,
)

from ugro_py.state._types import JsonObject, UtcDateTime

JOB_STATUSES = ("pending", "starting", "running", "collecting", "completed", "failed", "stopped")
ENDED = frozenset({"completed", "failed", "stopped"})
"""The statuses after which nothing of a job, an attempt or a rank runs any more."""

# Names of constraints are fixed, so that migrations can address them on every database.
metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def _id() -> Column[int]:
    return Column("id", Integer, primary_key=True)


def _reference(name: str, target: str, **options: Any) -> Column[Any]:
    return Column(name, ForeignKey(target), **options)


nodes = Table(
    "nodes",
    metadata,
    Column("name", String(63), primary_key=True),
    Column("address", String(255), nullable=False),
    Column("status", String(20), nullable=False),
    Column("reason", Text, nullable=False, server_default=""),
    Column("facts", JSON, nullable=False),
    Column("last_seen", UtcDateTime),
    # What the health sweeps say, after hysteresis: unknown, healthy, degraded or unreachable.
    Column("health", String(20), nullable=False, server_default="unknown"),
    Column("health_reason", Text, nullable=False, server_default=""),
    Column("health_since", UtcDateTime),
    Column("health_at", UtcDateTime),  # of the newest check: what is older than a few of them proves nothing
    # No new job is placed on a node that is drained; by a person, or by the health sweep ("health").
    Column("drain", Boolean, nullable=False, server_default=false()),
    Column("drain_reason", Text, nullable=False, server_default=""),
    Column("drained_by", Text),
    Column("drain_lasts", Boolean, nullable=False, server_default=true()),  # the health sweep may not end it
)

gpus = Table(
    "gpus",
    metadata,
    Column("uuid", String(128), primary_key=True),
    _reference("node", "nodes.name", nullable=False, index=True),
    Column("index", Integer, nullable=False),
    Column("kind", String(10), nullable=False),
    Column("name", Text, nullable=False),
    Column("vram_gb", Float),
    Column("missing", Boolean, nullable=False, server_default=false()),
    # Why the newest check of its node keeps jobs away from it (used by somebody else, sick); empty: nothing does.
    Column("unusable", Text, nullable=False, server_default=""),
)

jobs = Table(
    "jobs",
    metadata,
    _id(),
    Column("name", String(63), nullable=False, unique=True),
    Column("user", Text, nullable=False),
    Column("status", String(20), nullable=False, index=True),
    Column("reason", Text, nullable=False, server_default=""),
    Column("exit_code", Integer),
    Column("request", JsonObject, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("started_at", UtcDateTime),
    Column("ended_at", UtcDateTime),
    Column("stop_requested", Boolean, nullable=False, server_default=false()),
    Column("stop_force", Boolean, nullable=False, server_default=false()),
    Column("controller_host", Text),
    Column("controller_boot_id", Text),
    Column("controller_pid", Integer),
    # Clock ticks since boot; at 100 a second 32 bits would do for 248 days only.
    Column("controller_start_ticks", BigInteger),
    # The queue: 0 to 100, higher first; `position` orders jobs of one priority where somebody moved them.
    Column("priority", Integer, nullable=False, server_default="50"),
    Column("position", Float),
    Column("held", Boolean, nullable=False, server_default=false()),
    Column("held_by", Text),
    Column("after", JSON(none_as_null=True)),
    Column("time_limit_s", Float),
    Column("preempted", Integer, nullable=False, server_default="0"),
    Column("preempt_for", String(63)),  # the more urgent job for which this one is to be stopped and queued again
    Column("unix_group", Text),
    CheckConstraint(f"status IN {JOB_STATUSES}", name="status"),
)

attempts = Table(
    "attempts",
    metadata,
    _id(),
    _reference("job_id", "jobs.id", nullable=False),
    Column("number", Integer, nullable=False),
    Column("status", String(20), nullable=False),
    Column("reason", Text, nullable=False, server_default=""),
    Column("master_addr", String(255), nullable=False),
    Column("master_port", Integer, nullable=False),
    Column("token", Text, nullable=False),
    Column("sync_window_s", Float),
    Column("first_failed_rank", Integer),
    Column("started_at", UtcDateTime, nullable=False),
    Column("ended_at", UtcDateTime),
    UniqueConstraint("job_id", "number"),
)

ranks = Table(
    "ranks",
    metadata,
    _id(),
    _reference("attempt_id", "attempts.id", nullable=False),
    Column("rank", Integer, nullable=False),
    Column("node", String(63), nullable=False),
    Column("local_rank", Integer, nullable=False),
    _reference("gpu_uuid", "gpus.uuid", nullable=False),
    Column("status", String(20), nullable=False),
    Column("pid", Integer),
    Column("exit_code", Integer),
    Column("signal", Integer),
    Column("started_at", UtcDateTime),
    Column("ended_at", UtcDateTime),
    UniqueConstraint("attempt_id", "rank"),
)

allocations = Table(
    "allocations",
    metadata,
    _id(),
    _reference("gpu_uuid", "gpus.uuid", nullable=False),
    _reference("attempt_id", "attempts.id", nullable=False, index=True),
    Column("allocated_at", UtcDateTime, nullable=False),
    Column("released_at", UtcDateTime),
)
# One GPU, one holder: the database itself refuses a second allocation that is not released. The revision that makes
# this index says so to PostgreSQL as well; to name that dialect here would import it at every start (0.1 s).
Index(
    "uq_allocations_active_gpu",
    allocations.c.gpu_uuid,
    unique=True,
    sqlite_where=allocations.c.released_at.is_(None),
)

events = Table(
    "events",
    metadata,
    _id(),
    Column("at", UtcDateTime, nullable=False),
    Column("kind", String(40), nullable=False),
    Column("severity", String(10), nullable=False),
    Column("text", Text, nullable=False),
    _reference("job_id", "jobs.id", index=True),
    Column("node", String(63)),
    Column("rank", Integer),
    Column("data", JSON(none_as_null=True)),
)

# One row per node and sweep; old ones are removed (retention).
health_checks = Table(
    "health_checks",
    metadata,
    _id(),
    Column("node", String(63), nullable=False),
    Column("at", UtcDateTime, nullable=False),
    Column("state", String(20), nullable=False),
    Column("severity", String(10), nullable=False),
    Column("latency_ms", Float),
    Column("findings", JSON, nullable=False),
)
Index("ix_health_checks_node_at", health_checks.c.node, health_checks.c.at)

# Who acts for the cluster. `term` grows with every new holder: what an earlier one still writes can be refused.
leases = Table(
    "leases",
    metadata,
    Column("name", String(40), primary_key=True),
    Column("term", Integer, nullable=False),
    Column("host", Text, nullable=False),
    Column("boot_id", Text, nullable=False),
    Column("pid", Integer, nullable=False),
    Column("start_ticks", BigInteger, nullable=False),
    Column("address", Text, nullable=False, server_default=""),
    Column("acquired_at", UtcDateTime, nullable=False),
    Column("renewed_at", UtcDateTime, nullable=False),
    Column("duration_s", Float, nullable=False),
)

# Users and groups: role and quotas. Who has no row has the defaults; a quota that is null has no limit.
accounts = Table(
    "accounts",
    metadata,
    Column("kind", String(10), primary_key=True),
    Column("name", String(63), primary_key=True),
    Column("role", String(10), nullable=False, server_default="user"),
    Column("max_gpus", Integer),
    Column("max_queued", Integer),
    Column("gpu_hours_week", Float),
    Column("max_priority", Integer),
    CheckConstraint("kind IN ('user', 'group')", name="kind"),
    CheckConstraint("role IN ('admin', 'user')", name="role"),
)

# Who asked for what, and whether it was done. What was refused again and again is one row a minute, with a count.
audit = Table(
    "audit",
    metadata,
    _id(),
    Column("at", UtcDateTime, nullable=False, index=True),
    Column("user", Text, nullable=False),
    Column("uid", Integer),
    Column("verb", String(40), nullable=False),
    Column("target", Text, nullable=False, server_default=""),
    Column("outcome", Text, nullable=False),
    Column("data", JSON(none_as_null=True)),
    Column("count", Integer, nullable=False, server_default="1"),
)

# A condition that was told of: one row from when it began to when it was over.
alerts = Table(
    "alerts",
    metadata,
    _id(),
    Column("key", String(200), nullable=False),
    Column("rule", String(40), nullable=False),
    Column("severity", String(10), nullable=False),
    Column("text", Text, nullable=False),
    Column("job", String(63)),
    Column("node", String(63)),
    Column("first_at", UtcDateTime, nullable=False),
    Column("last_at", UtcDateTime, nullable=False),
    Column("count", Integer, nullable=False, server_default="1"),
    Column("notified_at", UtcDateTime),
    Column("resolved_at", UtcDateTime),
)
# At most one open alert of a key. The revision tells PostgreSQL too, as with allocations.
Index("uq_alerts_open_key", alerts.c.key, unique=True, sqlite_where=alerts.c.resolved_at.is_(None))

# How far each reader of the events has come: the id of the last event it has dealt with.
cursors = Table(
    "cursors",
    metadata,
    Column("name", String(40), primary_key=True),
    Column("event_id", Integer, nullable=False),
)
