"""The tables of what people say of a job, and of its figures once they are known."""

from __future__ import annotations

from sqlalchemy import JSON, BigInteger, Column, Float, ForeignKey, Index, Integer, String, Table, Text

from ugro_py.state._types import JsonObject, UtcDateTime
from ugro_py.state.models import metadata

# One row per job that was listed. What can be sorted and filtered by has a column; `figures` holds all of them.
experiments = Table(
    "experiments",
    metadata,
    Column("job_id", Integer, ForeignKey("jobs.id"), primary_key=True, autoincrement=False),
    Column("model", Text),
    Column("dataset", Text),
    Column("note", Text, nullable=False, server_default=""),
    Column("steps", BigInteger),
    Column("duration_s", Float),
    Column("loss_last", Float),
    Column("loss_best", Float),
    Column("throughput_tokens_sec", Float),
    Column("gpu_hours", Float),
    Column("energy_kwh", Float),
    Column("spark", JSON(none_as_null=True)),
    Column("figures", JsonObject(none_as_null=True)),
    Column("figures_at", UtcDateTime),  # when they were read
    # The end of the job that they are of: a job that is resumed and ends again has others.
    Column("figures_of", UtcDateTime),
)

job_tags = Table(
    "job_tags",
    metadata,
    Column("job_id", Integer, ForeignKey("jobs.id"), primary_key=True, autoincrement=False),
    Column("tag", String(40), primary_key=True),
)
Index("ix_job_tags_tag", job_tags.c.tag)
