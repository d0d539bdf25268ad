"""What the central store keeps of an attempt for a controller that takes over: who takes part, and the cluster then."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ugro_py.cluster import Cluster, Node, Settings, TrainingDefaults
from ugro_py.errors import StateError, UgroError
from ugro_py.paths import JobPaths
from ugro_py.plan import Gang
from ugro_py.scheduler import Gpu, Placement


def save_gang(gang: Gang, cluster: Cluster, store: str = "") -> None:
    """Keep an attempt, the cluster it was planned for and the database it is in, whole or not at all."""
    target = JobPaths(gang.job).gang(gang.attempt)
    JobPaths(gang.job).root.mkdir(mode=0o700, parents=True, exist_ok=True)
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    kept = asdict(cluster) | {"source": str(cluster.source)}
    value = {"gang": asdict(gang), "cluster": kept, "store": store}
    part = target.with_suffix(".new")
    part.touch(mode=0o600)
    part.write_text(json.dumps(value, indent=1), encoding="utf-8")
    part.rename(target)


def load_gang(job: str, attempt: int) -> tuple[Gang, Cluster] | None:
    """Return what `save_gang` kept; None if the controller was killed before it did."""
    try:
        value = json.loads(JobPaths(job).gang(attempt).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    places = tuple(Placement(**{**place, "gpu": Gpu(**place["gpu"])}) for place in value["gang"].pop("placements"))
    return Gang(placements=places, **value["gang"]), _cluster(value["cluster"])


def cluster_text(cluster: Cluster) -> str:
    """Return what `save_cluster` writes."""
    return json.dumps(asdict(cluster) | {"source": str(cluster.source)}, indent=1)


def store_of(job: str, attempt: int) -> str:
    """Return in which database (`Store.identity`) an attempt was recorded; "" where nothing was kept."""
    try:
        return str(json.loads(JobPaths(job).gang(attempt).read_text(encoding="utf-8")).get("store") or "")
    except (OSError, ValueError, AttributeError):
        return ""


def save_cluster(job: str, cluster: Cluster, text: str | None = None) -> None:
    """Keep the cluster that a job waits for, whole or not at all; `text` is what `cluster_text` made of it before."""
    target = JobPaths(job).cluster
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    part = target.with_suffix(".new")
    part.touch(mode=0o600)
    part.write_text(cluster_text(cluster) if text is None else text, encoding="utf-8")
    part.rename(target)


def cluster_of(job: str) -> Cluster:
    """Return the cluster that a waiting job is for: its inventory as it is now, or as it was where it cannot be read.

    Raises:
        StateError: nothing was kept.
    """
    from ugro_py.inventory import load_cluster

    try:
        kept = _kept_cluster(job)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StateError(f"cluster of job {job}", "was not kept", f"launch it anew, or `ugro resume {job}`") from error
    try:
        return load_cluster(str(kept.source))
    except UgroError:
        return kept  # a playbook's, or being edited just now: what it was when the job was submitted will do


def _kept_cluster(job: str) -> Cluster:
    """Return the cluster as it was kept; of a job that was started without waiting it lies with its attempts."""
    paths = JobPaths(job)
    if paths.cluster.exists():
        return _cluster(json.loads(paths.cluster.read_text(encoding="utf-8")))
    newest = max(paths.gang(1).parent.parent.glob(f"*/{paths.gang(1).name}"), key=lambda path: path.stat().st_mtime)
    return _cluster(json.loads(newest.read_text(encoding="utf-8"))["cluster"])


def nodes_of(gang: Gang, cluster: Cluster) -> dict[str, Node]:
    """Return the nodes of a gang by name."""
    return {name: cluster.node(name) for name in gang.nodes}


def _cluster(value: Mapping[str, Any]) -> Cluster:
    nodes = tuple(Node(**{**node, "ssh_args": tuple(node["ssh_args"])}) for node in value["nodes"])
    training = TrainingDefaults(**value["training"])
    settings = Settings(**value.get("settings", {}))
    read = {"nodes": nodes, "training": training, "settings": settings, "source": Path(value["source"])}
    return Cluster(**{**value, **read})
