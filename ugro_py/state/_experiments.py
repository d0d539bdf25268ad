"""Experiments in the store: tags and notes of jobs, the figures they are listed with, and that list."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, and_, case, delete, func, insert, not_, or_, select, update
from sqlalchemy.exc import IntegrityError

from ugro_py.experiments.filters import Filter, changed_tags, check_note, check_tags, is_text
from ugro_py.state._base import Part, check_values, now
from ugro_py.state.experiment_row import ExperimentRow, experiment_row
from ugro_py.state.models import allocations, attempts, jobs
from ugro_py.state.models_experiments import experiments, job_tags

_AT_ONCE = 500  # names in one statement
_LONGEST = 300
_NUMBERS = (
    "steps", "duration_s", "loss_last", "loss_best", "throughput_tokens_sec", "gpu_hours", "energy_kwh",
)  # fmt: skip
_KEPT = frozenset([*_NUMBERS, "spark", "figures"])
_RELATIONS = {"=": "__eq__", "!=": "__ne__", "<": "__lt__", "<=": "__le__", ">": "__gt__", ">=": "__ge__"}


_LISTED = (
    jobs.c.id, jobs.c.name, jobs.c.status, jobs.c.reason, jobs.c.user, jobs.c.created_at, jobs.c.started_at,
    jobs.c.ended_at, experiments.c.model, experiments.c.dataset, experiments.c.note, experiments.c.steps,
    experiments.c.duration_s, experiments.c.loss_last, experiments.c.loss_best, experiments.c.throughput_tokens_sec,
    experiments.c.gpu_hours, experiments.c.energy_kwh, experiments.c.spark, experiments.c.figures_at,
    experiments.c.figures_of,
    # All figures are read for the few that they say more of: why there is no loss.
    case((experiments.c.loss_last.is_(None), experiments.c.figures)).label("figures"),
)  # fmt: skip
_JOINED = jobs.outerjoin(experiments, experiments.c.job_id == jobs.c.id)
# Whose figures are not those of its end. A job that has ended twice has the first end's until somebody looks.
_NOT_FINAL = and_(
    jobs.c.ended_at.is_not(None),
    or_(experiments.c.figures_of.is_(None), experiments.c.figures_of != jobs.c.ended_at),
)


class Experiments(Part):
    """Experiments in the store: tags, notes, kept figures."""

    def tags(self, job: str) -> tuple[str, ...]:
        """Return the tags of a job, in order; NotFoundError if there is no such job."""
        with self.database.read() as connection:
            return self._tags(connection, self._job_id(connection, job))

    def set_tags(self, job: str, tags: Iterable[str] | None, changes: Iterable[str] = ()) -> bool:
        """Give a job these tags (None: those it has) after `changes` (`+good`, `-bad`); return whether any changed.

        Raises:
            NotFoundError: there is no such job.
            UsageError: a tag is not valid, or they are too many.
        """
        with self.database.write() as connection:
            job_id = self._job_id(connection, job, lock=True)
            old = self._tags(connection, job_id)
            wanted = changed_tags(old if tags is None else tags, changes)
            gone, new = set(old) - set(wanted), [tag for tag in wanted if tag not in old]
            if gone:
                here = and_(job_tags.c.job_id == job_id, job_tags.c.tag.in_(gone))
                connection.execute(delete(job_tags).where(here))
            if new:
                connection.execute(insert(job_tags), [{"job_id": job_id, "tag": tag} for tag in new])
            return bool(gone or new)

    def all_tags(self) -> dict[str, int]:
        """Return every tag and how many jobs have it, most used first."""
        count = func.count().label("jobs")
        query = select(job_tags.c.tag, count).group_by(job_tags.c.tag).order_by(count.desc(), job_tags.c.tag)
        with self.database.read() as connection:
            return {row.tag: row.jobs for row in connection.execute(query)}

    def note(self, job: str) -> str:
        """Return the note of a job, "" without one; NotFoundError if there is no such job."""
        with self.database.read() as connection:
            job_id = self._job_id(connection, job)
            return connection.scalar(select(experiments.c.note).where(experiments.c.job_id == job_id)) or ""

    def set_note(self, job: str, text: str) -> bool:
        """Replace the note of a job ("" removes it); return whether it was another.

        Raises:
            NotFoundError: there is no such job.
            UsageError: it is too long, or no text.
        """
        note = check_note(text)
        with self.database.write() as connection:
            here = self._experiment(connection, job)
            if connection.scalar(select(experiments.c.note).where(here)) == note:
                return False
            connection.execute(update(experiments).where(here).values(note=note))
            return True

    def keep_figures(self, job: str, figures_of: datetime | None, **values: Any) -> None:
        """Keep the figures of a job.

        Args:
            job: its name.
            figures_of: the job's end that they are of; None while it has not ended.
            values: the columns, see `ugro_py.experiments.figures`.

        Raises:
            NotFoundError: there is no such job.
        """
        check_values(values, _KEPT)
        with self.database.write() as connection:
            here = self._experiment(connection, job)
            connection.execute(
                update(experiments).where(here).values(figures_at=now(), figures_of=figures_of, **values)
            )

    def kept_figures(self, job: str) -> Mapping[str, Any] | None:
        """Return the figures of a job's end if they were kept, else None; NotFoundError if there is no such job."""
        with self.database.read() as connection:
            job_id = self._job_id(connection, job)
            query = select(experiments.c.figures).where(experiments.c.job_id == job_id)
            query = query.join(jobs, jobs.c.id == experiments.c.job_id)
            found = connection.scalar(query.where(experiments.c.figures_of == jobs.c.ended_at))
            return found or None

    def unfigured(self, limit: int | None = None) -> list[str]:
        """Return jobs that have ended and whose figures were not kept, newest first."""
        query = select(jobs.c.name).select_from(_JOINED).where(_NOT_FINAL).order_by(jobs.c.id.desc()).limit(limit)
        with self.database.read() as connection:
            return list(connection.scalars(query))

    def gpu_hours(self, job: str) -> float:
        """Return the GPU hours that a job's attempts took so far; a CPU slot counts as a GPU, as in `ugro usage`."""
        query = select(allocations.c.allocated_at, allocations.c.released_at).join(
            attempts, attempts.c.id == allocations.c.attempt_id
        )
        with self.database.read() as connection:
            job_id = self._job_id(connection, job)
            rows = connection.execute(query.where(attempts.c.job_id == job_id)).all()
        at = now()
        spans: list[float] = [((row.released_at or at) - row.allocated_at).total_seconds() for row in rows]
        return sum(max(0.0, span) for span in spans) / 3600

    def note_requests(self) -> None:
        """See to it that every job can be filtered by its model and data set, which its request names."""
        query = select(jobs.c.id, jobs.c.request).select_from(_JOINED).where(experiments.c.job_id.is_(None))
        with self.database.read() as connection:
            new = connection.execute(query).all()
        if not new:
            return
        try:
            with self.database.write() as connection:
                connection.execute(insert(experiments), [_of_request(row.id, row.request) for row in new])
        except IntegrityError:
            return  # somebody else just did it

    def experiments(
        self,
        filters: Sequence[Filter] = (),
        search: str = "",
        sort: tuple[str, bool] = ("created", True),
        limit: int | None = None,
        offset: int = 0,
        names: Collection[str] | None = None,
    ) -> tuple[list[ExperimentRow], int]:
        """Return jobs for a list, and how many there are in all.

        Args:
            filters: conditions that all must hold (`ugro_py.experiments.filters.parse`).
            search: a text that name, user, model, data set, status, note or a tag contains, in any case.
            sort: column, and whether the greatest comes first; jobs without a value come last either way.
            limit, offset: of the list.
            names: only these jobs.
        """
        where = [_condition(one) for one in filters]
        if search:
            where.append(_search(search))
        if names is not None:
            where.append(jobs.c.name.in_(list(names)))
        with self.database.read() as connection:
            total = connection.scalar(select(func.count()).select_from(_JOINED).where(*where)) or 0
            query = _sorted(select(*_LISTED).select_from(_JOINED).where(*where), *sort).limit(limit).offset(offset)
            rows = connection.execute(query).all()
            tags = self._tags_of(connection, [row.id for row in rows])
        return [experiment_row(row, tuple(tags.get(row.id, ()))) for row in rows], total

    @staticmethod
    def _tags(connection: Connection, job_id: int) -> tuple[str, ...]:
        query = select(job_tags.c.tag).where(job_tags.c.job_id == job_id)
        return tuple(sorted(connection.scalars(query)))

    @staticmethod
    def _tags_of(connection: Connection, ids: Sequence[int]) -> dict[int, list[str]]:
        found: dict[int, list[str]] = {}
        for start in range(0, len(ids), _AT_ONCE):
            query = select(job_tags).where(job_tags.c.job_id.in_(ids[start : start + _AT_ONCE]))
            for row in connection.execute(query.order_by(job_tags.c.tag)):
                found.setdefault(row.job_id, []).append(row.tag)
        return found

    def _experiment(self, connection: Connection, job: str) -> ColumnElement[bool]:
        """Return the condition for the row of a job, which is made if there is none."""
        job_id = self._job_id(connection, job, lock=True)
        here = experiments.c.job_id == job_id
        if connection.scalar(select(experiments.c.job_id).where(here)) is None:
            request = connection.scalar(select(jobs.c.request).where(jobs.c.id == job_id))
            connection.execute(insert(experiments).values(**_of_request(job_id, request or {})))
        return here


Words = tuple[tuple[str, ...], str]
"""What people say of a job: its tags and its note."""


def words_of(request: Mapping[str, Any]) -> Words:
    """Return the tags and the note that a request brings along; UsageError where one is not valid."""
    return check_tags(request.get("tags") or ()), check_note(request.get("note") or "")


def without_words(request: Mapping[str, Any]) -> dict[str, Any]:
    """Return a request without what people say of the job: that may change, and has tables of its own."""
    return {**request, **{key: empty for key, empty in (("tags", []), ("note", "")) if request.get(key)}}


def keep_words(connection: Connection, job_id: int, request: Mapping[str, Any], words: Words) -> None:
    """Give a new job the tags and the note of its request."""
    tags, note = words
    if tags:
        connection.execute(insert(job_tags), [{"job_id": job_id, "tag": tag} for tag in tags])
    if note:
        connection.execute(insert(experiments).values(**_of_request(job_id, request) | {"note": note}))


def _of_request(job_id: int, request: Mapping[str, Any]) -> dict[str, Any]:
    """Return the row of a job that nothing else is known of: what it trains, or the script it runs."""
    script = request.get("script")
    model, dataset = (script, None) if script else (request.get("model"), request.get("dataset"))
    return {"job_id": job_id, "model": _word(model), "dataset": _word(dataset), "note": ""}


def _word(value: object) -> str | None:
    return value[:_LONGEST] if isinstance(value, str) and is_text(value) else None


def _condition(one: Filter) -> ColumnElement[bool]:
    if one.key == "tag":
        named = job_tags.c.tag == one.text
        if one.relation == "~":
            named = func.lower(job_tags.c.tag).contains(one.text.lower(), autoescape=True)
        has = select(job_tags.c.tag).where(job_tags.c.job_id == jobs.c.id, named).exists()
        return not_(has) if one.relation == "!=" else has
    if one.number is not None:
        found: ColumnElement[bool] = getattr(experiments.c[one.key], _RELATIONS[one.relation])(one.number)
        return found
    column: ColumnElement[Any] = func.coalesce(_text_column(one.key), "")
    if one.relation == "~":
        return func.lower(column).contains(one.text.lower(), autoescape=True)
    return column != one.text if one.relation == "!=" else column == one.text


def _text_column(key: str) -> ColumnElement[Any]:
    return experiments.c[key] if key in ("model", "dataset") else jobs.c[key]


def _search(text: str) -> ColumnElement[bool]:
    wanted = text.strip().lower().replace("\0", "")
    tagged = select(job_tags.c.tag).where(
        job_tags.c.job_id == jobs.c.id, func.lower(job_tags.c.tag).contains(wanted, autoescape=True)
    )
    columns = (jobs.c.name, jobs.c.user, jobs.c.status, experiments.c.model, experiments.c.dataset, experiments.c.note)
    return or_(*(func.lower(column).contains(wanted, autoescape=True) for column in columns), tagged.exists())


def _sorted(query: Select[Any], key: str, falling: bool) -> Select[Any]:
    if key == "created":
        return query.order_by(jobs.c.id.desc() if falling else jobs.c.id)
    column: Any = jobs.c.name if key == "job" else _text_column(key) if key in jobs.c else experiments.c[key]
    by = column.desc() if falling else column.asc()
    return query.order_by(column.is_(None), by, jobs.c.id.desc())
