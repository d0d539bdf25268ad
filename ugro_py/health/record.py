"""Write a verdict into the store that was reached without the agent: by playbooks/health.yml from cron."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime

from ansible_collections.ugro.cluster.plugins.module_utils import health as readings

from ugro_py.health import catalog
from ugro_py.health.drains import drain_for, lift_where_well
from ugro_py.health.known import database_exists
from ugro_py.health.now import observed
from ugro_py.verify import Verdict

FRESH_S = 90.0
"""What the agent checked so recently is its business: it has seen more than one reading."""


def record(addresses: Mapping[str, str], verdict: Verdict) -> list[str]:
    """Record the state of each node and drain those that need it; return the names of the nodes that were recorded.

    Without a database nothing is done: there is nobody to place jobs.

    Args:
        addresses: node -> its address.
        verdict: what was found.

    Raises:
        StateError: the database cannot be used.
    """
    if not database_exists():
        return []
    from ugro_py.state import Store
    from ugro_py.state._health import Check

    now = datetime.now(UTC)
    with Store.open() as store:
        fresh = {row.name for row in store.nodes() if row.health_at and (now - row.health_at).total_seconds() < FRESH_S}
        written = [name for name in verdict.summaries if name not in fresh]
        checks = []
        for name in written:
            found = [item for item in verdict.of(name) if item.severity != "ok"]
            counting = sorted((item for item in found if catalog.counts(item.check)), key=lambda item: item.severity)
            severity = readings.worst([{"severity": item.severity} for item in counting])
            reason = counting[0].advice if counting else ""
            state = observed(verdict, name)
            checks.append(
                Check(name, addresses[name], state, reason, severity, None, [asdict(item) for item in found], None)
            )
        store.record_checks(checks)
        for name in written:
            for item in verdict.of(name):
                drain_for(store, item)
        lift_where_well(store, written)
    return written
