"""The queue as its page shows it: figures that stay the same as long as nothing happens."""

from __future__ import annotations

import time
from typing import Any

from ugro_py.queue.shown import entries
from ugro_py.web.live import Look


def waiting(look: Look) -> list[dict[str, Any]]:
    """Return the jobs that wait, first in line first: as `ugro queue ls --json`, each with the time it waits since."""

    def make() -> list[dict[str, Any]]:
        agent = look.agent
        created = {row.name: row.created_at for row in agent.store.queued()}
        jobs = entries(agent.store, agent.cluster, time.time())
        return [{**job, "since": created.get(job["job"])} for job in jobs]

    return look.shared.get("queue", make)
