"""The control plane: queue, node health, leases, accounts, audit trail, alerts."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def _job_columns() -> list[sa.Column[Any]]:
    return [
        sa.Column("priority", sa.Integer(), server_default="50", nullable=False),
        sa.Column("position", sa.Float(), nullable=True),
        sa.Column("held", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("held_by", sa.Text(), nullable=True),
        sa.Column("after", sa.JSON(), nullable=True),
        sa.Column("time_limit_s", sa.Float(), nullable=True),
        sa.Column("preempted", sa.Integer(), server_default="0", nullable=False),
        sa.Column("preempt_for", sa.String(63), nullable=True),
        sa.Column("unix_group", sa.Text(), nullable=True),
    ]


def _node_columns() -> list[sa.Column[Any]]:
    return [
        sa.Column("health", sa.String(length=20), server_default="unknown", nullable=False),
        sa.Column("health_reason", sa.Text(), server_default="", nullable=False),
        sa.Column("health_since", sa.DateTime(timezone=True), nullable=True),
        sa.Column("health_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("drain", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("drain_reason", sa.Text(), server_default="", nullable=False),
        sa.Column("drained_by", sa.Text(), nullable=True),
        sa.Column("drain_lasts", sa.Boolean(), server_default=sa.true(), nullable=False),
    ]


def _gpu_columns() -> list[sa.Column[Any]]:
    return [sa.Column("unusable", sa.Text(), server_default="", nullable=False)]


def upgrade() -> None:
    for column in _gpu_columns():
        op.add_column("gpus", column)
    for column in _job_columns():
        op.add_column("jobs", column)
    for column in _node_columns():
        op.add_column("nodes", column)
    op.create_table(
        "health_checks",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("node", sa.String(length=63), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("state", sa.String(length=20), nullable=False),
        sa.Column("severity", sa.String(length=10), nullable=False),
        sa.Column("latency_ms", sa.Float(), nullable=True),
        sa.Column("findings", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_health_checks"),
    )
    op.create_index("ix_health_checks_node_at", "health_checks", ["node", "at"], unique=False)
    op.create_table(
        "leases",
        sa.Column("name", sa.String(length=40), nullable=False),
        sa.Column("term", sa.Integer(), nullable=False),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("boot_id", sa.Text(), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.Column("start_ticks", sa.BigInteger(), nullable=False),
        sa.Column("address", sa.Text(), server_default="", nullable=False),
        sa.Column("acquired_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("renewed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("duration_s", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_leases"),
    )
    op.create_table(
        "accounts",
        sa.Column("kind", sa.String(length=10), nullable=False),
        sa.Column("name", sa.String(length=63), nullable=False),
        sa.Column("role", sa.String(length=10), server_default="user", nullable=False),
        sa.Column("max_gpus", sa.Integer(), nullable=True),
        sa.Column("max_queued", sa.Integer(), nullable=True),
        sa.Column("gpu_hours_week", sa.Float(), nullable=True),
        sa.Column("max_priority", sa.Integer(), nullable=True),
        sa.CheckConstraint("kind IN ('user', 'group')", name="ck_accounts_kind"),
        sa.CheckConstraint("role IN ('admin', 'user')", name="ck_accounts_role"),
        sa.PrimaryKeyConstraint("kind", "name", name="pk_accounts"),
    )
    op.create_table(
        "audit",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("user", sa.Text(), nullable=False),
        sa.Column("uid", sa.Integer(), nullable=True),
        sa.Column("verb", sa.String(length=40), nullable=False),
        sa.Column("target", sa.Text(), server_default="", nullable=False),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("data", sa.JSON(), nullable=True),
        sa.Column("count", sa.Integer(), server_default="1", nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_audit"),
    )
    op.create_index("ix_audit_at", "audit", ["at"])
    op.create_table(
        "alerts",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("key", sa.String(length=200), nullable=False),
        sa.Column("rule", sa.String(length=40), nullable=False),
        sa.Column("severity", sa.String(length=10), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("job", sa.String(length=63), nullable=True),
        sa.Column("node", sa.String(length=63), nullable=True),
        sa.Column("first_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("last_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("count", sa.Integer(), server_default="1", nullable=False),
        sa.Column("notified_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("resolved_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_alerts"),
    )
    op.create_index(
        "uq_alerts_open_key",
        "alerts",
        ["key"],
        unique=True,
        sqlite_where=sa.text("resolved_at IS NULL"),
        postgresql_where=sa.text("resolved_at IS NULL"),
    )
    op.create_table(
        "cursors",
        sa.Column("name", sa.String(length=40), nullable=False),
        sa.Column("event_id", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_cursors"),
    )


def downgrade() -> None:
    for table in ("cursors", "alerts", "audit", "accounts", "leases", "health_checks"):
        op.drop_table(table)
    for name, columns in (("nodes", _node_columns()), ("jobs", _job_columns()), ("gpus", _gpu_columns())):
        with op.batch_alter_table(name) as batch:
            for column in columns:
                batch.drop_column(column.name)
