"""Figures of GPUs and machines for Prometheus: what the newest health sweep read of each node."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeGuard

from prometheus_client.core import GaugeMetricFamily

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric

    from ugro_py.cluster import Cluster

_GIB = 2**30
_GPU = ["node", "gpu", "uuid"]
# key of a reading -> (name, meaning, by what it is multiplied)
_GPU_FIGURES = {
    "util_percent": ("ugro_gpu_utilisation_ratio", "How busy a GPU is, 0 to 1.", 0.01),
    "vram_used_gb": ("ugro_gpu_memory_used_bytes", "Memory of a GPU that is used.", _GIB),
    "temperature_c": ("ugro_gpu_temperature_celsius", "Temperature of a GPU.", 1),
    "power_w": ("ugro_gpu_power_watts", "Power that a GPU draws.", 1),
    "power_limit_w": ("ugro_gpu_power_limit_watts", "Power that a GPU may draw.", 1),
    "clock_sm_mhz": ("ugro_gpu_clock_hertz", "Clock of a GPU's processors.", 1e6),
}
# Clocks that are held down because something is wrong; the others only say that the GPU has nothing to do.
_THROTTLES = frozenset({"hw_slowdown", "sw_thermal_slowdown", "hw_thermal_slowdown", "hw_power_brake_slowdown"})


def readings(cluster: Cluster, reports: Mapping[str, Mapping[str, Any]]) -> Iterator[Metric]:
    """Yield the figures of every node that answers; what a machine does not tell is left out."""
    from ugro_py.health.findings import own_share

    known = {node.name for node in cluster.nodes}
    shares = {name: own_share(cluster, name, dict(report)) for name, report in reports.items() if name in known}
    yield from _gpus(shares)
    yield from _machines(shares)


def _gpus(shares: Mapping[str, Mapping[str, Any]]) -> Iterator[Metric]:
    figures = {key: GaugeMetricFamily(name, text, labels=_GPU) for key, (name, text, _) in _GPU_FIGURES.items()}
    ecc = GaugeMetricFamily("ugro_gpu_ecc_errors", "Memory errors since the driver was loaded.", labels=[*_GPU, "kind"])
    lost = GaugeMetricFamily("ugro_gpu_lost", "1 where a GPU does not answer any more.", labels=_GPU)
    throttled = GaugeMetricFamily(
        "ugro_gpu_throttled", "1 where heat or a fault holds a GPU's clocks down.", labels=_GPU
    )
    for node, share in shares.items():
        for gpu in share["gpu"]["gpus"]:
            labels = [node, str(gpu.get("index")), str(gpu.get("uuid"))]
            for key, family in figures.items():
                if _is_number(gpu.get(key)):
                    family.add_metric(labels, gpu[key] * _GPU_FIGURES[key][2])
            for kind, count in (gpu.get("ecc") or {}).items():
                if kind in ("corrected", "uncorrected") and _is_number(count):
                    ecc.add_metric([*labels, kind], count)
            lost.add_metric(labels, bool(gpu.get("lost")))
            throttled.add_metric(labels, not _THROTTLES.isdisjoint(gpu.get("throttle_reasons") or ()))
    yield from figures.values()
    yield from (ecc, lost, throttled)


def _machines(shares: Mapping[str, Mapping[str, Any]]) -> Iterator[Metric]:
    load = GaugeMetricFamily("ugro_node_load1", "Load average of the last minute.", labels=["node"])
    cpus = GaugeMetricFamily("ugro_node_cpus", "CPUs that may be used.", labels=["node"])
    memory = GaugeMetricFamily("ugro_node_memory_bytes", "Memory of a node.", labels=["node"])
    available = GaugeMetricFamily("ugro_node_memory_available_bytes", "Memory that can be had.", labels=["node"])
    size = GaugeMetricFamily("ugro_node_disk_size_bytes", "Size of a file system UGRO uses.", labels=["node", "path"])
    free = GaugeMetricFamily("ugro_node_disk_free_bytes", "Free room of it.", labels=["node", "path"])
    for name, share in shares.items():
        node = share["node"]
        values = node.get("memory") or {}
        for family, value, scale in (
            (load, (node.get("load") or [None])[0], 1),
            (cpus, node.get("cpu_count"), 1),
            (memory, values.get("total_gb"), _GIB),
            (available, values.get("available_gb"), _GIB),
        ):
            if _is_number(value):
                family.add_metric([name], value * scale)
        for path, disk in {str(disk.get("path")): disk for disk in node.get("disks") or ()}.items():
            if _is_number(disk.get("free_gb")) and _is_number(disk.get("total_gb")):
                size.add_metric([name, path], disk["total_gb"] * _GIB)
                free.add_metric([name, path], disk["free_gb"] * _GIB)
    yield from (load, cpus, memory, available, size, free)


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)
