"""The queue in the store: what waits, and changes of its order."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import bindparam, update

from ugro_py.state._base import Part
from ugro_py.state.models import jobs


class Queue(Part):
    """The queue in the store: what waits, and changes of its order."""

    def note_reasons(self, reasons: Mapping[str, str]) -> None:
        """Keep why jobs wait (name -> reason); one that does not wait any more stays as it is. Makes no events."""
        rows = [{"a_job": job, "a_reason": reason} for job, reason in reasons.items()]
        if not rows:
            return
        with self.database.write() as connection:
            connection.execute(
                update(jobs)
                .where(jobs.c.name == bindparam("a_job"), jobs.c.status == "pending")
                .values(reason=bindparam("a_reason")),
                rows,
            )
