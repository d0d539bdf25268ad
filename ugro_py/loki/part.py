"""The agent's part that pushes the logs of running jobs to Loki (`ugro_loki` in the inventory).

It reads the copies in the central store, so neither jobs nor the agent wait for it. Nothing is kept in memory but one
batch: while Loki is away the logs lie where they are, and are pushed from there when it is back.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from ugro_py.errors import NotFoundError, StateError
from ugro_py.events import harmless
from ugro_py.loki.push import Pusher, PushError, Stream
from ugro_py.loki.tail import READ_BYTES, JobLogs, Tail

if TYPE_CHECKING:
    from ugro_py.cluster import Settings
    from ugro_py.state import JobRow, Store

POLL_S = 1.0
BACKOFF_S = (1.0, 2.0, 5.0, 15.0, 60.0)
MOST_WAIT_S = 300.0
BATCH_BYTES = 1 << 20
LEAST_BYTES = 1 << 14
_LOOK_S = 2.0
_ENDED_WITHIN = timedelta(days=1)
_MOST_ENDED = 100
_QUIET_S = 60.0
_log = logging.getLogger("ugro.agent")


@dataclass
class _Job:
    """A job that is followed; one that has ended until its logs are pushed and nothing was new for a while."""

    logs: JobLogs
    attempt: int
    ended_at: datetime | None
    quiet_since: float


class Shipper:
    """Pushes logs for as long as the agent runs.

    Args:
        store: says which jobs there are.
        pusher: where to.
        poll_s: how often is looked for new lines.
        backoff_s: how long to wait after each failed push.
        note: called with the seconds that a push took.

    Attributes:
        dropped: lines that Loki refused for good.
    """

    def __init__(
        self,
        store: Store,
        pusher: Pusher,
        *,
        poll_s: float = POLL_S,
        backoff_s: tuple[float, ...] = BACKOFF_S,
        note: Callable[[float], None] | None = None,
    ) -> None:
        self.dropped = 0
        self._store, self._pusher, self._poll_s, self._backoff_s = store, pusher, poll_s, backoff_s
        self._note = note
        self._jobs: dict[str, _Job] = {}
        self._settled: dict[str, datetime] = {}
        self._bytes = BATCH_BYTES
        self._failures = 0
        self._turn = 0

    async def run(self, stop: asyncio.Event) -> None:
        """Push what is new until `stop` is set."""
        looked = 0.0
        while not stop.is_set():
            if time.monotonic() - looked > min(_LOOK_S, 2 * self._poll_s):
                with contextlib.suppress(StateError):  # a database that is away: what is known is followed on
                    await asyncio.to_thread(self._look)
                looked = time.monotonic()
            wait = await self._round()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), wait)

    # -- which jobs --------------------------------------------------------------------------------------------

    def _look(self) -> None:
        ended = self._store.jobs(active=False, limit=_MOST_ENDED)
        since = datetime.now(UTC) - _ENDED_WITHIN
        rows = [row for row in ended if row.ended_at is not None and row.ended_at > since]
        found = {row.name: row for row in (*self._store.jobs(active=True), *rows)}
        self._settled = {name: at for name, at in self._settled.items() if name in found}
        for name, row in found.items():
            known = self._jobs.get(name)
            if row.ended_at is not None and (
                self._settled.get(name) == row.ended_at or (known is not None and known.ended_at == row.ended_at)
            ):
                continue
            # A job may be removed at this very moment.
            with contextlib.suppress(NotFoundError):
                self._follow(row, known)

    def _follow(self, row: JobRow, known: _Job | None) -> None:
        newest = self._store.attempt(row.name)
        if newest is None:
            return
        if known is None:
            known = self._jobs[row.name] = _Job(JobLogs(row.name), 0, None, time.monotonic())
        for number in range(known.attempt + 1, newest.number + 1):
            for rank in self._store.ranks(row.name, number):
                known.logs.add(number, rank.rank, rank.node)
        known.attempt, known.ended_at = newest.number, row.ended_at
        known.quiet_since = time.monotonic()

    # -- one push ----------------------------------------------------------------------------------------------

    async def _round(self) -> float:
        """Push one batch; return how many seconds to wait until the next."""
        started = time.monotonic()
        try:
            batch = await asyncio.to_thread(self._read)
        except OSError as error:
            return await self._failed(PushError(f"the central store: {error.strerror or error}"))
        if not batch:
            return self._poll_s
        begun = time.monotonic()
        try:
            await self._pusher.push([stream for _, stream in batch])
        except PushError as error:
            if error.status in (413, 429) and self._bytes > LEAST_BYTES:
                self._bytes = max(LEAST_BYTES, self._bytes // 2)  # it may never take as much as this at once
                for tail, _ in batch:
                    tail.give_up()
                if error.status == 413:
                    return 0.0
            if not error.for_good:
                return await self._failed(error)
            if (again := await self._refused(batch, error)) is not None:
                return await self._failed(again)
        else:
            self._bytes = min(BATCH_BYTES, 2 * self._bytes)
            for tail, _ in batch:
                tail.taken()
        if self._note is not None:
            self._note(time.monotonic() - begun)
        await asyncio.to_thread(self._save)
        await self._works()
        # Who catches up with gigabytes leaves the agent half of its time.
        return min(self._poll_s, time.monotonic() - started)

    def _read(self) -> list[tuple[Tail, Stream]]:
        """Read at most one batch, from the logs in turn, and keep which: after a kill the same is pushed again."""
        now_ns, left = time.time_ns(), self._bytes
        batch = []
        tails = [(job, tail) for job in self._jobs.values() for tail in job.logs.tails.values()]
        self._turn = self._turn % len(tails) if tails else 0
        for job, tail in (*tails[self._turn :], *tails[: self._turn]):
            newest = tail.attempt == job.attempt
            limit = min(left, READ_BYTES)
            last = job.ended_at is not None or not newest
            stream = tail.read(now_ns, last=last, newest=newest, limit=limit)
            if stream is not None and tail.pending is not None:
                batch.append((tail, stream))
                job.quiet_since = time.monotonic()
                left -= tail.pending[0] - tail.offset
                if left < LEAST_BYTES:
                    break
        self._turn += len(batch)
        if batch:
            self._save()
        for name, job in list(self._jobs.items()):
            if job.ended_at is not None and time.monotonic() - job.quiet_since > _QUIET_S:
                self._settled[name] = job.ended_at
                del self._jobs[name]
        return batch

    def _save(self) -> None:
        for job in self._jobs.values():
            job.logs.save()

    async def _refused(self, batch: list[tuple[Tail, Stream]], error: PushError) -> PushError | None:
        """Go on behind what Loki will never take; return why the rest is to be tried again, if it is.

        The lines that it does take of such a push it has taken. But its answer is that to one stream, and another may
        only have been too fast: each is asked for alone.
        """
        for tail, stream in batch:
            try:
                if len(batch) > 1:
                    await self._pusher.push([stream])
            except PushError as alone:
                if not alone.for_good:
                    return alone
                error = alone
            else:
                if len(batch) > 1:
                    tail.taken()
                    continue
            tail.taken()
            self.dropped += len(stream.values)
            text = (
                f"Loki at {self._pusher.shown} refused some of {len(stream.values)} lines of rank {tail.rank}: {error}"
            )
            await self._tell("logs_refused", text, job=tail.paths.job)
        return None

    async def _failed(self, error: PushError) -> float:
        self._failures += 1
        pause = self._backoff_s[min(self._failures, len(self._backoff_s)) - 1]
        if error.wait_s is not None:
            pause = min(max(pause, error.wait_s), MOST_WAIT_S)
        if self._failures == 3:  # once, until it works again; one that is restarted is no news
            await self._tell("loki_away", f"Loki at {self._pusher.shown} takes no logs: {error}; they wait")
        return pause

    async def _works(self) -> None:
        if self._failures >= 3:
            await self._tell("loki_back", f"Loki at {self._pusher.shown} takes logs again", "info")
        self._failures = 0

    async def _tell(self, kind: str, text: str, severity: str = "warning", job: str | None = None) -> None:
        text = harmless(text)[:500]
        _log.warning("%s", text)
        with contextlib.suppress(StateError):
            await asyncio.to_thread(self._store.add_event, kind, text, severity=severity, job=job)


def shipper_of(store: Store, settings: Settings, note: Callable[[float], None] | None = None) -> Shipper | None:
    """Return what pushes logs as the inventory says; None where it names no Loki."""
    if not settings.loki_url:
        return None
    token_file = Path(settings.loki_token_file) if settings.loki_token_file else None
    ca_file = Path(settings.loki_ca_file) if settings.loki_ca_file else None
    pusher = Pusher(settings.loki_url, settings.loki_tenant, token_file, user=settings.loki_user, ca_file=ca_file)
    return Shipper(store, pusher, note=note)
