"""The agent's figures in Prometheus' text format, made anew from the store at each scrape."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, SummaryMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from ugro_py import paths
from ugro_py.api.prom_events import counts_of
from ugro_py.api.prom_jobs import jobs
from ugro_py.api.prom_readings import readings
from ugro_py.health.known import shown

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric

    from ugro_py.api.view import AgentView

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4
_STATES = ("healthy", "degraded", "unreachable", "draining", "drained", "unknown")


def exposition(agent: AgentView) -> bytes:
    """Return all figures, ready to be served."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Cluster(agent))
    ProcessCollector(registry=registry)
    text: bytes = generate_latest(registry)
    return text


class _Cluster(Collector):
    def __init__(self, agent: AgentView) -> None:
        self._agent = agent

    def collect(self) -> Iterator[Metric]:
        """Yield every family of figures."""
        events = counts_of(self._agent)
        events.read(self._agent.store)
        yield from self._nodes()
        yield from readings(self._agent.cluster, self._agent.readings())
        yield from jobs(self._agent.store, events.standing_still())
        yield from events.families()
        yield from self._loops()
        yield from _central_store()

    def _nodes(self) -> Iterator[Metric]:
        store = self._agent.store
        rows = {row.name: row for row in store.nodes()}
        states = GaugeMetricFamily("ugro_nodes", "Nodes by state.", labels=["state"])
        health = GaugeMetricFamily("ugro_node_state", "1 for the state that a node is in.", labels=["node", "state"])
        counts: Counter[str] = Counter()
        computing = store.busy_nodes()
        for node in self._agent.cluster.nodes:
            here = shown(rows.get(node.name), node.name in computing)
            counts[here] += 1
            for state in _STATES:
                health.add_metric([node.name, state], here == state)
        for state in _STATES:
            states.add_metric([state], counts[state])
        yield states
        yield health
        yield from self._checks()
        busy, unusable = store.busy(), store.unusable_gpus()
        gpus = GaugeMetricFamily("ugro_gpus", "GPUs by node and state.", labels=["node", "state"])
        memory = GaugeMetricFamily("ugro_gpu_memory_bytes", "Memory a GPU has.", labels=["node", "gpu", "uuid", "name"])
        kinds: Counter[tuple[str, str]] = Counter()
        for gpu in store.gpus():
            state = "allocated" if gpu.uuid in busy else "unusable" if gpu.uuid in unusable else "free"
            kinds[gpu.node, state] += 1
            if gpu.vram_gb is not None:
                memory.add_metric([gpu.node, str(gpu.index), gpu.uuid, gpu.name], gpu.vram_gb * 2**30)
        for (node_name, state), count in sorted(kinds.items()):
            gpus.add_metric([node_name, state], count)
        yield gpus
        yield memory

    def _checks(self) -> Iterator[Metric]:
        """What the last health check of each node found; the names of checks are a fixed list."""
        latency = GaugeMetricFamily(
            "ugro_node_latency_seconds", "Round trip to a node in its last check.", labels=["node"]
        )
        found = GaugeMetricFamily(
            "ugro_node_findings", "Problems that a node's last check found.", labels=["node", "check", "severity"]
        )
        here = {node.name for node in self._agent.cluster.nodes}
        for name, check in self._agent.store.latest_checks().items():
            if name not in here:
                continue
            if check.latency_ms is not None:
                latency.add_metric([name], check.latency_ms / 1000)
            counts = Counter((str(item.get("check")), str(item.get("severity"))) for item in check.findings)
            for (what, severity), count in sorted(counts.items()):
                found.add_metric([name, what, severity], count)
        yield latency
        yield found

    def _loops(self) -> Iterator[Metric]:
        rounds = SummaryMetricFamily("ugro_agent_round_seconds", "How long the agent's rounds take.", labels=["loop"])
        worst = GaugeMetricFamily("ugro_agent_round_seconds_max", "The longest of the last rounds.", labels=["loop"])
        for name, timing in self._agent.timings().items():
            rounds.add_metric([name], count_value=timing.count, sum_value=timing.total_s)
            worst.add_metric([name], timing.worst_s)
        yield rounds
        yield worst


def _central_store() -> Iterator[Metric]:
    """The file system that holds every job's results; none where it cannot be asked."""
    try:
        status = os.statvfs(paths.data_dir())
    except OSError:
        return
    size, free = status.f_blocks * status.f_frsize, status.f_bavail * status.f_frsize
    yield GaugeMetricFamily("ugro_store_size_bytes", "Size of the file system of the central store.", value=size)
    yield GaugeMetricFamily("ugro_store_free_bytes", "Free room in the central store.", value=free)
