"""Attempts, ranks and allocations in the store."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import Connection, Row, Select, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from ugro_py.errors import AllocationError, NotFoundError
from ugro_py.scheduler import Placement
from ugro_py.state._base import Part, now
from ugro_py.state.models import ENDED, allocations, attempts, gpus, jobs, ranks
from ugro_py.state.rows import AttemptRow, RankRow

_ATTEMPT_VALUES = frozenset(
    ["status", "reason", "master_addr", "master_port", "sync_window_s", "first_failed_rank", "ended_at"]
)
_RANK_VALUES = frozenset(["status", "pid", "exit_code", "signal", "started_at", "ended_at"])


class Attempts(Part):
    """Gangs: which ranks run where, and the exclusive use of their GPUs."""

    def start_attempt(
        self, job: str, placements: Sequence[Placement], *, master_addr: str, master_port: int, token: str
    ) -> int:
        """Record the next attempt of a job with its ranks and allocate their GPUs, all or nothing.

        GPUs that an earlier, ended attempt of the same job still holds pass to the new one, so that
        nobody can take them between two attempts.

        Returns:
            The number of the attempt, counted from 1: the fencing token.

        Raises:
            AllocationError: a GPU is held by another job or by an attempt that has not ended, or is
                not known.
            NotFoundError: there is no such job.
        """
        try:
            with self.database.write() as connection:
                job_id = self._job_id(connection, job, lock=True)
                self._release_ended(connection, job_id)
                self._check_free(connection, placements)
                newest = select(func.max(attempts.c.number)).where(attempts.c.job_id == job_id)
                number = (connection.scalar(newest) or 0) + 1
                attempt_id = self._insert_attempt(
                    connection, job_id, number, placements, (master_addr, master_port, token)
                )
                self._allocate(connection, attempt_id, placements)
                where = ", ".join(f"{p.rank} on {p.node}:{p.gpu.index}" for p in placements)
                self._event(connection, "attempt", f"attempt {number}: rank {where}", job_id=job_id)
        except IntegrityError as error:
            # The index on active allocations said no: the last line of defence behind the check above.
            raise AllocationError(
                f"allocate {len(placements)} GPUs to job {job}", "one of them is held", "see `ugro ps`"
            ) from error
        return number

    @staticmethod
    def _insert_attempt(
        connection: Connection,
        job_id: int,
        number: int,
        placements: Sequence[Placement],
        master: tuple[str, int, str],
    ) -> int:
        result = connection.execute(
            insert(attempts).values(
                job_id=job_id,
                number=number,
                status="starting",
                master_addr=master[0],
                master_port=master[1],
                token=master[2],
                started_at=now(),
            )
        )
        assert result.inserted_primary_key is not None
        attempt_id: int = result.inserted_primary_key[0]
        if placements:
            connection.execute(
                insert(ranks),
                [
                    {
                        "attempt_id": attempt_id,
                        "rank": place.rank,
                        "node": place.node,
                        "local_rank": place.local_rank,
                        "gpu_uuid": place.gpu.uuid,
                        "status": "pending",
                    }
                    for place in placements
                ],
            )
        return attempt_id

    @staticmethod
    def _allocate(connection: Connection, attempt_id: int, placements: Sequence[Placement]) -> None:
        at = now()
        rows = [{"gpu_uuid": place.gpu.uuid, "attempt_id": attempt_id, "allocated_at": at} for place in placements]
        if rows:
            connection.execute(insert(allocations), rows)

    @staticmethod
    def _release_ended(connection: Connection, job_id: int) -> None:
        ended = select(attempts.c.id).where(attempts.c.job_id == job_id, attempts.c.ended_at.is_not(None))
        connection.execute(
            update(allocations)
            .where(allocations.c.released_at.is_(None), allocations.c.attempt_id.in_(ended))
            .values(released_at=now())
        )

    @staticmethod
    def _check_free(connection: Connection, placements: Sequence[Placement]) -> None:
        wanted = {place.gpu.uuid: place for place in placements}
        # Whoever wants one of these GPUs too waits here (PostgreSQL), in order of UUID: never in a circle.
        locked = select(gpus.c.uuid).where(gpus.c.uuid.in_(wanted)).order_by(gpus.c.uuid)
        known = set(connection.scalars(locked.with_for_update()))
        held = connection.execute(
            select(allocations.c.gpu_uuid, jobs.c.name)
            .join(attempts, attempts.c.id == allocations.c.attempt_id)
            .join(jobs, jobs.c.id == attempts.c.job_id)
            .where(allocations.c.released_at.is_(None), allocations.c.gpu_uuid.in_(wanted))
            .order_by(allocations.c.gpu_uuid)
        ).all()
        if held:
            place = wanted[held[0].gpu_uuid]
            raise AllocationError(
                f"allocate {place.node}:{place.gpu.index}",
                f"job {held[0].name} holds it",
                "wait for it to end (`ugro ps`) or choose other GPUs",
            )
        for uuid, place in wanted.items():
            if uuid not in known:
                raise AllocationError(
                    f"allocate {place.node}:{place.gpu.index}",
                    f"GPU {uuid} is not in the state database",
                    f"run `ugro check {place.node}`",
                )

    def release(self, job: str) -> int:
        """Free every GPU the job holds; return how many were freed (0 when there were none).

        Raises:
            NotFoundError: there is no such job.
        """
        with self.database.write() as connection:
            job_id = self._job_id(connection, job)
            of_job = select(attempts.c.id).where(attempts.c.job_id == job_id)
            result = connection.execute(
                update(allocations)
                .where(allocations.c.released_at.is_(None), allocations.c.attempt_id.in_(of_job))
                .values(released_at=now())
            )
            if result.rowcount:
                self._event(connection, "released", f"{result.rowcount} GPUs freed", job_id=job_id)
            return result.rowcount

    def set_attempt(self, job: str, attempt: int, **values: Any) -> None:
        """Set columns of an attempt: status, reason, master_addr, master_port, sync_window_s,
        first_failed_rank, ended_at. A status that ends it sets `ended_at` unless given.

        Raises:
            NotFoundError: there is no such attempt.
            ValueError: a name is none of these.
        """
        _check_values(values, _ATTEMPT_VALUES)
        with self.database.write() as connection:
            attempt_id = self._attempt_id(connection, job, attempt)
            _end(values, connection.scalar(select(attempts.c.ended_at).where(attempts.c.id == attempt_id)))
            connection.execute(update(attempts).where(attempts.c.id == attempt_id).values(**values))

    def set_rank(self, job: str, attempt: int, rank: int, **values: Any) -> None:
        """Set columns of a rank: status, pid, exit_code, signal, started_at, ended_at.

        The statuses running and completed/failed/stopped set `started_at` and `ended_at` unless given.

        Raises:
            NotFoundError: there is no such rank.
            ValueError: a name is none of these.
        """
        _check_values(values, _RANK_VALUES)
        with self.database.write() as connection:
            attempt_id = self._attempt_id(connection, job, attempt)
            this = (ranks.c.attempt_id == attempt_id) & (ranks.c.rank == rank)
            old = connection.execute(select(ranks.c.started_at, ranks.c.ended_at).where(this)).one_or_none()
            if old is None:
                raise NotFoundError(f"rank {rank} of job {job!r}", "there is none", f"run `ugro status {job}`")
            if values.get("status") == "running" and old.started_at is None:
                values.setdefault("started_at", now())
            _end(values, old.ended_at)
            connection.execute(update(ranks).where(this).values(**values))

    def attempt(self, job: str, number: int | None = None) -> AttemptRow | None:
        """Return an attempt of a job, the newest by default; None if there is none.

        Raises:
            NotFoundError: there is no such job.
        """
        with self.database.read() as connection:
            job_id = self._job_id(connection, job)
            query = select(attempts).where(attempts.c.job_id == job_id).order_by(attempts.c.number.desc())
            if number is not None:
                query = query.where(attempts.c.number == number)
            row = connection.execute(query.limit(1)).one_or_none()
        if row is None:
            return None
        return AttemptRow(
            job=job,
            number=row.number,
            status=row.status,
            reason=row.reason,
            master_addr=row.master_addr,
            master_port=row.master_port,
            token=row.token,
            sync_window_s=row.sync_window_s,
            first_failed_rank=row.first_failed_rank,
            started_at=row.started_at,
            ended_at=row.ended_at,
        )

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


def _check_values(values: dict[str, Any], allowed: frozenset[str]) -> None:
    unknown = sorted(values.keys() - allowed)
    if unknown or not values:
        raise ValueError(f"{unknown or 'nothing'} cannot be set; can: {sorted(allowed)}")


def _end(values: dict[str, Any], ended_at: object) -> None:
    if values.get("status") in ENDED and ended_at is None:
        values.setdefault("ended_at", now())
