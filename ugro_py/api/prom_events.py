"""Events as counters for Prometheus: how many of each kind this agent has seen, and which ranks stand still."""

from __future__ import annotations

import re
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import product
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from prometheus_client.core import CounterMetricFamily

from ugro_py.state._alerts import SEVERITIES
from ugro_py.state.models import ENDED

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric

    from ugro_py.api.view import AgentView
    from ugro_py.state import Store
    from ugro_py.state.rows import EventRow

# Counted from nought on, of every severity: Prometheus sees no increase of a series that begins with its first event.
_KNOWN = (
    "alert_failed", "database_away", "gpu_lost", "gpu_missing", "logs_paused", "logs_refused", "loki_away", "node_lost",
    "node_suspect", "part_failed", "rank_failed", "rank_frozen", "rank_idle", "stray", "task_failed",
)  # fmt: skip
_MOST_KINDS = 200
_BLOCK = 1000
_STATUS = re.compile(r"\w+ -> (\w+)")


class EventCounts:
    """What was seen of the events since the first scrape; safe for several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._reached: int | None = None
        self._kinds: Counter[tuple[str, str]] = Counter(dict.fromkeys(product(_KNOWN, SEVERITIES), 0))
        self._ended: Counter[str] = Counter(dict.fromkeys(sorted(ENDED), 0))
        self._still: dict[tuple[str, int], str] = {}

    def read(self, store: Store) -> None:
        """Count what is new in the store.

        Raises:
            StateError: the database cannot be used.
        """
        with self._lock:
            if self._reached is None:
                self._reached = store.newest_event()
            while events := store.events_after(self._reached, _BLOCK):
                for event in events:
                    self._count(event)
                self._reached = events[-1].id

    def standing_still(self) -> Mapping[str, int]:
        """Return how many ranks of each job were told to stand still, and not to go on since."""
        with self._lock:
            return Counter(job for job, _ in self._still)

    def families(self) -> Iterator[Metric]:
        """Yield the counters."""
        kinds = CounterMetricFamily("ugro_events", "Events since the first scrape.", labels=["kind", "severity"])
        ended = CounterMetricFamily("ugro_jobs_ended", "Jobs that ended since the first scrape.", labels=["status"])
        with self._lock:
            for labels, count in sorted(self._kinds.items()):
                kinds.add_metric(list(labels), count)
            for status, count in sorted(self._ended.items()):
                ended.add_metric([status], count)
        yield kinds
        yield ended

    def _count(self, event: EventRow) -> None:
        key = (event.kind, event.severity)
        # Kinds are a fixed list today; a bug that makes up new ones must not fill Prometheus.
        self._kinds[key if key in self._kinds or len(self._kinds) < _MOST_KINDS else ("other", event.severity)] += 1
        if event.job is None:
            return
        if event.kind in ("rank_frozen", "rank_idle") and event.rank is not None:
            self._still[event.job, event.rank] = event.kind
        elif event.kind == "rank_moves" and event.rank is not None:
            self._still.pop((event.job, event.rank), None)
        elif event.kind in ("job_status", "attempt"):
            self._still = {key: kind for key, kind in self._still.items() if key[0] != event.job}
            found = _STATUS.match(event.text)
            if event.kind == "job_status" and found and found[1] in self._ended:
                self._ended[found[1]] += 1


_counts: WeakKeyDictionary[AgentView, EventCounts] = WeakKeyDictionary()
_lock = threading.Lock()


def counts_of(agent: AgentView) -> EventCounts:
    """Return the counts that belong to an agent, the same for as long as it lives."""
    with _lock:
        return _counts.setdefault(agent, EventCounts())
