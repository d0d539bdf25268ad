"""Attempts and allocations in the store."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from ugro_py.display import counted
from ugro_py.errors import AllocationError
from ugro_py.scheduler import Placement
from ugro_py.state._base import Part, check_values, now, set_end
from ugro_py.state.models import allocations, attempts, gpus, jobs, ranks
from ugro_py.state.rows import AttemptRow

_ATTEMPT_VALUES = frozenset(
    ["status", "reason", "master_addr", "master_port", "sync_window_s", "first_failed_rank", "ended_at"]
)


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
            LostControlError: see `Store.acting_as`.
            NotFoundError: there is no such job.
        """
        try:
            with self.database.write() as connection:
                job_id = self._controlled(connection, job)
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
                f"allocate {counted(len(placements), 'GPU')} to job {job}", "one of them is held", "see `ugro ps`"
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
            LostControlError: see `Store.acting_as`.
            NotFoundError: there is no such job.
        """
        with self.database.write() as connection:
            job_id = self._controlled(connection, job)
            of_job = select(attempts.c.id).where(attempts.c.job_id == job_id)
            result = connection.execute(
                update(allocations)
                .where(allocations.c.released_at.is_(None), allocations.c.attempt_id.in_(of_job))
                .values(released_at=now())
            )
            if result.rowcount:
                self._event(connection, "released", f"{counted(result.rowcount, 'GPU')} freed", job_id=job_id)
            return result.rowcount

    def set_attempt(self, job: str, attempt: int, **values: Any) -> None:
        """Set columns of an attempt: status, reason, master_addr, master_port, sync_window_s,
        first_failed_rank, ended_at. A status that ends it sets `ended_at` unless given.

        Raises:
            LostControlError: see `Store.acting_as`.
            NotFoundError: there is no such attempt.
            ValueError: a name is none of these.
        """
        check_values(values, _ATTEMPT_VALUES)
        with self.database.write() as connection:
            self._controlled(connection, job)
            attempt_id = self._attempt_id(connection, job, attempt)
            set_end(values, connection.scalar(select(attempts.c.ended_at).where(attempts.c.id == attempt_id)))
            connection.execute(update(attempts).where(attempts.c.id == attempt_id).values(**values))

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
