"""The agent's figures in Prometheus' text format, made anew from the store at each scrape."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, SummaryMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from ugro_py.health.known import shown
from ugro_py.state.models import JOB_STATUSES

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric

    from ugro_py.api.view import AgentView

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4


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
        yield from self._nodes()
        yield from self._jobs()
        yield from self._loops()

    def _nodes(self) -> Iterator[Metric]:
        store = self._agent.store
        rows = {row.name: row for row in store.nodes()}
        states = GaugeMetricFamily("ugro_nodes", "Nodes by state.", labels=["state"])
        counts: Counter[str] = Counter()
        computing = store.busy_nodes()
        for node in self._agent.cluster.nodes:
            row = rows.get(node.name)
            counts[shown(row, node.name in computing)] += 1
        for state in ("healthy", "degraded", "unreachable", "draining", "drained", "unknown"):
            states.add_metric([state], counts[state])
        yield states
        latency = GaugeMetricFamily(
            "ugro_node_latency_seconds", "Round trip to a node in its last check.", labels=["node"]
        )
        for name, check in store.latest_checks().items():
            if check.latency_ms is not None:
                latency.add_metric([name], check.latency_ms / 1000)
        yield latency
        busy, unusable = store.busy(), store.unusable_gpus()
        gpus = GaugeMetricFamily("ugro_gpus", "GPUs by node and state.", labels=["node", "state"])
        memory = GaugeMetricFamily("ugro_gpu_memory_bytes", "Memory a GPU has.", labels=["node", "gpu", "uuid", "name"])
        kinds: Counter[tuple[str, str]] = Counter()
        for gpu in store.gpus():
            state = "allocated" if gpu.uuid in busy else "unusable" if gpu.uuid in unusable else "free"
            kinds[gpu.node, state] += 1
            if gpu.vram_gb is not None:
                memory.add_metric([gpu.node, str(gpu.index), gpu.uuid, gpu.name], gpu.vram_gb * 1e9)
        for (node_name, state), count in sorted(kinds.items()):
            gpus.add_metric([node_name, state], count)
        yield gpus
        yield memory

    def _jobs(self) -> Iterator[Metric]:
        store = self._agent.store
        counts = store.job_counts()
        jobs = GaugeMetricFamily("ugro_jobs", "Jobs by status.", labels=["status"])
        for status in JOB_STATUSES:
            jobs.add_metric([status], counts.get(status, 0))
        yield jobs
        now = datetime.now(UTC)
        waits = [(now - job.created_at).total_seconds() for job in store.jobs(active=True) if job.status == "pending"]
        yield GaugeMetricFamily("ugro_queue_length", "Jobs that wait.", value=len(waits))
        yield GaugeMetricFamily(
            "ugro_queue_wait_seconds_max",
            "How long the job that waits longest has waited.",
            value=max(waits, default=0.0),
        )

    def _loops(self) -> Iterator[Metric]:
        rounds = SummaryMetricFamily("ugro_agent_round_seconds", "How long the agent's rounds take.", labels=["loop"])
        worst = GaugeMetricFamily("ugro_agent_round_seconds_max", "The longest of the last rounds.", labels=["loop"])
        for name, timing in self._agent.timings().items():
            rounds.add_metric([name], count_value=timing.count, sum_value=timing.total_s)
            worst.add_metric([name], timing.worst_s)
        yield rounds
        yield worst
