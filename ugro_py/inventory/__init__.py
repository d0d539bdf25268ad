"""An inventory: read, checked, and changed without touching what people wrote."""

from __future__ import annotations

from ugro_py.inventory.load import GROUP, cluster_from_hostvars, inventory_file, load_cluster, parse_cluster

__all__ = ["GROUP", "cluster_from_hostvars", "inventory_file", "load_cluster", "parse_cluster"]
