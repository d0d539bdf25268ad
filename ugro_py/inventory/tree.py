"""An inventory as a tree: groups, hosts and variables, each with the place where it is written.

Which groups hold a host, and in which order they count, is Ansible's. What the variables mean is
`ugro_py.inventory.keys`' business.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

MAX_DEPTH = 20
"""Of groups within groups; also ends a group that contains itself through a YAML alias."""


@dataclass(frozen=True)
class Value:
    """One variable: where it is written (`file:line`), how to get its value, and its parts if it is a mapping."""

    where: str
    load: Callable[[], Any]
    parts: Callable[[], Vars]


Vars = dict[str, Value]


@dataclass
class Group:
    """A group of the inventory, with its definitions at all places of the file merged."""

    name: str
    where: str
    vars: Vars = field(default_factory=dict)
    hosts: list[str] = field(default_factory=list)
    children: list[str] = field(default_factory=list)


@dataclass
class Host:
    """A host of the inventory, with its definitions at all places of the file merged."""

    name: str
    where: str
    vars: Vars = field(default_factory=dict)


@dataclass
class Tree:
    """The whole inventory: every group and host, in the order of the file."""

    file: Path
    groups: dict[str, Group] = field(default_factory=dict)
    hosts: dict[str, Host] = field(default_factory=dict)

    def members(self, group: str) -> list[str]:
        """Return the hosts of `group` and of its children, in the order of the file."""
        names = {host for name in self.descendants(group) for host in self.groups[name].hosts}
        return [host for host in self.hosts if host in names]

    def descendants(self, group: str) -> list[str]:
        """Return `group` and all groups below it."""
        found: list[str] = []
        queue = [group]
        while queue:
            name = queue.pop(0)
            if name in self.groups and name not in found:
                found.append(name)
                queue += self.groups[name].children
        return found

    def groups_of(self, host: str) -> list[str]:
        """Return the groups that hold `host`, the weakest first: by depth, then name, as in Ansible."""
        depth = self._depths()
        holders = [name for name in self.groups if name != "all" and host in self.members(name)]
        return ["all", *sorted(holders, key=lambda name: (depth[name], name))]

    def _depths(self) -> dict[str, int]:
        depth = dict.fromkeys(self.groups, 1)
        for _ in range(MAX_DEPTH):  # longest path from the top; a cycle just stops at the limit
            for group in self.groups.values():
                if group.name == "all":
                    continue
                for child in group.children:
                    depth[child] = max(depth[child], min(depth[group.name] + 1, MAX_DEPTH))
        return depth
