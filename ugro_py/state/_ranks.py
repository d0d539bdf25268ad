"""Ranks in the store: what each process of a gang does, and where."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from sqlalchemy import Row, Select, func, select, update

from ugro_py.errors import NotFoundError
from ugro_py.state._base import Part, check_values, now, set_end
from ugro_py.state.models import attempts, gpus, jobs, ranks
from ugro_py.state.rows import RankRow

_RANK_VALUES = frozenset(["status", "pid", "exit_code", "signal", "started_at", "ended_at"])


class Ranks(Part):
    """The ranks of attempts; `Attempts.start_attempt` makes them."""

    def set_rank(self, job: str, attempt: int, rank: int, **values: Any) -> None:
        """Set columns of a rank: status, pid, exit_code, signal, started_at, ended_at.

        The statuses running and completed/failed/stopped set `started_at` and `ended_at` unless given.

        Raises:
            LostControlError: see `Store.acting_as`.
            NotFoundError: there is no such rank.
            ValueError: a name is none of these.
        """
        check_values(values, _RANK_VALUES)
        with self.database.write() as connection:
            self._controlled(connection, job)
            attempt_id = self._attempt_id(connection, job, attempt)
            this = (ranks.c.attempt_id == attempt_id) & (ranks.c.rank == rank)
            old = connection.execute(select(ranks.c.started_at, ranks.c.ended_at).where(this)).one_or_none()
            if old is None:
                raise NotFoundError(f"rank {rank} of job {job!r}", "there is none", f"run `ugro status {job}`")
            if values.get("status") == "running" and old.started_at is None:
                values.setdefault("started_at", now())
            set_end(values, old.ended_at)
            connection.execute(update(ranks).where(this).values(**values))

    def ranks(self, job: str, attempt: int | None = None) -> list[RankRow]:
        """Return the ranks of an attempt (the newest by default) in order; empty if there is none.

        Raises:
            NotFoundError: there is no such job.
        """
        with self.database.read() as connection:
            job_id = self._job_id(connection, job)
            query = _rank_query().where(attempts.c.job_id == job_id)
            if attempt is None:
                query = query.where(attempts.c.number == _newest_number())
            else:
                query = query.where(attempts.c.number == attempt)
            return [_rank_row(row) for row in connection.execute(query)]

    def ranks_of(self, names: Collection[str]) -> dict[str, list[RankRow]]:
        """Return the ranks of the newest attempt of several jobs in one query; every name is a key."""
        of_job: dict[str, list[RankRow]] = {name: [] for name in names}
        query = _rank_query().where(attempts.c.number == _newest_number())
        if len(of_job) <= 500:  # databases limit the number of parameters
            query = query.where(jobs.c.name.in_(of_job))
        with self.database.read() as connection:
            for row in connection.execute(query):
                if row.job in of_job:
                    of_job[row.job].append(_rank_row(row))
        return of_job


def _rank_query() -> Select[Any]:
    return (
        select(
            ranks,
            attempts.c.number.label("attempt"),
            jobs.c.name.label("job"),
            gpus.c.index.label("gpu_index"),
        )
        .join(attempts, attempts.c.id == ranks.c.attempt_id)
        .join(jobs, jobs.c.id == attempts.c.job_id)
        .join(gpus, gpus.c.uuid == ranks.c.gpu_uuid)
        .order_by(jobs.c.id, ranks.c.rank)
    )


def _newest_number() -> Any:
    newer = attempts.alias()
    return (
        select(func.max(newer.c.number))
        .where(newer.c.job_id == attempts.c.job_id)
        .correlate(attempts)
        .scalar_subquery()
    )


def _rank_row(row: Row[Any]) -> RankRow:
    return RankRow(
        job=row.job,
        attempt=row.attempt,
        rank=row.rank,
        node=row.node,
        local_rank=row.local_rank,
        gpu_uuid=row.gpu_uuid,
        gpu_index=row.gpu_index,
        status=row.status,
        pid=row.pid,
        exit_code=row.exit_code,
        signal=row.signal,
        started_at=row.started_at,
        ended_at=row.ended_at,
    )
