"""What UGRO knows of a cluster: its nodes and training defaults, as plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from ugro_py.errors import NotFoundError


@dataclass(frozen=True)
class Node:
    """One machine of the cluster, as the inventory describes it.

    `address` is the one the other nodes reach it by; `vram_gb` is GB per GPU; `slots` is how many
    CPU ranks the node takes when it has no GPU; `train_python` is the interpreter that has torch.
    """

    name: str
    address: str
    role: Literal["master", "worker"] = "worker"
    connection: Literal["ssh", "local"] = "ssh"
    user: str | None = None
    port: int = 22
    ssh_key: str | None = None
    ssh_args: tuple[str, ...] = ()
    python: str = "/usr/bin/python3"
    train_python: str = "~/.ugro/venv/bin/python"
    node_dir: str = "~/.ugro"
    gpu: str | None = None
    gpu_count: int | None = None
    vram_gb: float | None = None
    slots: int = 1

    def same_machine(self, other: Node) -> bool:
        """Say whether two nodes are one machine: logical nodes of this one share it."""
        return self.name == other.name or self.connection == other.connection == "local"


@dataclass(frozen=True)
class TrainingDefaults:
    """What `ugro launch` uses where the user gives no option; without a batch size the model's preset decides."""

    model: str = "tiny-llama"
    dataset: str = "python-docs"
    epochs: int = 2
    batch_size_per_gpu: int | None = None
    gradient_accumulation: int = 1


@dataclass(frozen=True)
class Settings:
    """How the cluster is run. Times are in the unit of their name; docs/inventory.md explains each.

    `accounts` maps a user here to the account whose processes the user's jobs are on the nodes; who is not named has
    the inventory's. `max_priority` is the highest that who is no admin may ask for; `audit_days` is how long the audit
    trail is kept. `health_thresholds` replaces values of `module_utils.health.DEFAULT_THRESHOLDS`. What the energy of
    a job cost is told where there is a price.
    """

    retry: int = 0
    retry_backoff_s: float = 10.0
    grace_s: float = 10.0
    keep_checkpoints: int = 100
    log_limit_gb: float = 2.0
    health_interval_s: float = 10.0
    health_retention_days: float = 30.0
    health_thresholds: Mapping[str, float] = field(default_factory=dict)
    fair_share_half_life_h: float = 168.0
    preemption: bool = False
    alert_urls: tuple[Any, ...] = ()
    alert_rules: tuple[Mapping[str, Any], ...] = ()
    accounts: Mapping[str, str] = field(default_factory=dict)
    max_priority: int = 50
    audit_days: float = 365.0
    loki_url: str = ""
    loki_tenant: str = ""
    loki_token_file: str = ""
    loki_user: str = ""
    loki_ca_file: str = ""
    energy_price_per_kwh: float | None = None
    energy_currency: str = "EUR"


@dataclass(frozen=True)
class Cluster:
    """All nodes in inventory order, master first, and the defaults of the cluster."""

    name: str
    nodes: tuple[Node, ...]
    source: Path
    master_port: int = 29500
    training: TrainingDefaults = field(default_factory=TrainingDefaults)
    settings: Settings = field(default_factory=Settings)

    @property
    def master(self) -> Node:
        """The node with role `master`; a valid inventory has exactly one."""
        return next(node for node in self.nodes if node.role == "master")

    def node(self, name: str) -> Node:
        """Return the node called `name`.

        Raises:
            NotFoundError: there is no such node.
        """
        for node in self.nodes:
            if node.name == name:
                return node
        known = ", ".join(node.name for node in self.nodes)
        raise NotFoundError(f"node {name!r}", f"not in {self.source}", f"known nodes: {known}")
