"""Turns an inventory into a `Cluster`: typed, validated, with file and line in every error.

The inventory is Ansible's own YAML. `load_cluster` reads it without Ansible, because importing Ansible alone
takes longer than a whole `ugro ps` may; precedence of variables is Ansible's (tests compare the two).
Inside a playbook, `cluster_from_hostvars` gives the same values and checks from Ansible's host variables.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ugro_py import paths
from ugro_py.cluster import Cluster, Node, TrainingDefaults
from ugro_py.errors import UsageError
from ugro_py.inventory.keys import (
    CLUSTER_KEYS,
    HOST_KEYS,
    TRAINING,
    TRAINING_KEYS,
    BadValue,
    resolve,
    unknown_key,
)
from ugro_py.inventory.reader import closest, invalid, read_tree, vars_beside
from ugro_py.inventory.settings import SETTING_KEYS, settings_of
from ugro_py.inventory.tree import Tree, Value, Vars
from ugro_py.names import check_name

GROUP = "ugro_nodes"

# field of Node -> the variables it comes from; of several the first wins, as in Ansible's ssh plugin
_FIELDS: dict[str, tuple[str, ...]] = {
    "address": ("ansible_ssh_host", "ansible_host"),
    "role": ("ugro_role",),
    "connection": ("ansible_connection",),
    "user": ("ansible_ssh_user", "ansible_user"),
    "port": ("ansible_ssh_port", "ansible_port"),
    "ssh_key": ("ansible_ssh_private_key_file", "ansible_private_key_file"),
    "python": ("ansible_python_interpreter",),
    "train_python": ("ugro_python",),
    "node_dir": ("ugro_node_dir",),
    "gpu": ("ugro_gpu",),
    "gpu_count": ("ugro_gpu_count",),
    "vram_gb": ("ugro_vram_gb",),
    "slots": ("ugro_slots",),
}
_SSH_ARGUMENTS = ("ansible_ssh_args", "ansible_ssh_common_args", "ansible_ssh_extra_args")
_SHARED_KEYS = (*CLUSTER_KEYS, TRAINING, *SETTING_KEYS)


@dataclass(frozen=True)
class _Entry:
    """A node, where the inventory has it, and the variables it was made from."""

    node: Node
    where: str
    vars: Vars

    def place(self, field: str) -> str:
        """Return where the variable behind a field of the node is written, or else where the node is."""
        return next((self.vars[key].where for key in _FIELDS[field] if key in self.vars), self.where)


def inventory_file(path: str | Path | None = None) -> Path:
    """Return the inventory file in use: `path` (or hosts.yml in it), the user's, or the embedded one.

    Raises:
        InventoryError: `path` is a folder without hosts.yml, or does not exist.
    """
    if path is None:
        own = paths.user_inventory()
        return own if own.exists() else paths.embedded_inventory()
    file = Path(path).expanduser()
    if file.is_dir():
        for name in ("hosts.yml", "hosts.yaml"):
            if (file / name).is_file():
                return file / name
        raise invalid(str(file), "the folder has no hosts.yml", "give the inventory with -i PATH")
    if not file.exists():
        raise invalid(str(file), "no such file", "give the inventory with -i PATH or $UGRO_INVENTORY")
    return file


def load_cluster(path: str | Path | None = None) -> Cluster:
    """Read and validate an inventory.

    Args:
        path: an inventory file or a folder with hosts.yml; None is the user's inventory if there is one, else
            the embedded one (this machine).

    Raises:
        InventoryError: the inventory cannot be read or is not valid; the text starts with `file:line`.
    """
    return parse_cluster(inventory_file(path))


def parse_cluster(file: Path, data: bytes | None = None) -> Cluster:
    """Validate an inventory file, or `data` as what `file` is about to hold.

    Raises:
        InventoryError: as `load_cluster`.
    """
    tree = read_tree(file, data)
    if GROUP not in tree.groups:
        near = closest(GROUP, [name for name in tree.groups if name != "all"] or [GROUP])
        raise invalid(str(file), f"has no group {GROUP}", near if near.startswith("did") else "")
    names = tree.members(GROUP)
    if not names:
        raise invalid(tree.groups[GROUP].where, f"group {GROUP} has no hosts", "see inventory/example/hosts.yml")
    entries = [_entry(name, variables, tree.hosts[name].where) for name, variables in _merge(tree, names).items()]
    return _cluster(entries, tree.groups[GROUP].where, file)


def cluster_from_hostvars(
    hostvars_by_name: Mapping[str, Mapping[str, Any]], source: str | Path, *, known: Collection[str] = ()
) -> Cluster:
    """Build a `Cluster` from Ansible's variables of the hosts of `ugro_nodes`; checks as in `load_cluster`.

    Args:
        hostvars_by_name: host name -> its variables, templated, in inventory order.
        source: the inventory, for messages and `Cluster.source`.
        known: further `ugro_` variables that the calling playbook takes.

    Raises:
        InventoryError: a variable is unknown or has a wrong value, or the nodes make no cluster.
    """
    if not hostvars_by_name:
        raise invalid(str(source), f"group {GROUP} has no hosts", "see inventory/example/hosts.yml")
    entries = []
    for name, data in hostvars_by_name.items():
        place = f"{source}: host {name}"
        entries.append(_entry(str(name), _wrap(data, place, known), place))
    return _cluster(entries, str(source), Path(source))


def _wrap(hostvars: Mapping[str, Any], place: str, known: Collection[str]) -> Vars:
    values: Vars = {}
    for key in map(str, hostvars):
        # Facts, magic variables and those of -e are here too: only unknown `ugro_` variables are refused.
        reason = None if key in known else unknown_key(key, strict=False)
        if reason is not None:
            raise invalid(place, f"unknown variable {key!r}", reason)
        if key in HOST_KEYS or key in _SHARED_KEYS:
            values[key] = _plain(f"{place}: {key}", hostvars, key)
    return values


def _plain(where: str, data: Mapping[str, Any], key: str) -> Value:
    def parts() -> Vars:
        inner = data[key]
        if not isinstance(inner, Mapping):
            raise invalid(where, "is not a mapping", "see docs/inventory.md")
        return {str(name): _plain(where, inner, name) for name in inner}

    return Value(where, lambda: data[key], parts)


def _merge(tree: Tree, names: list[str]) -> dict[str, Vars]:
    """Return the variables of each node, of each the strongest definition."""
    own = {"all", *tree.descendants(GROUP)}
    beside = {name: vars_beside(tree.file, "group_vars", name) for name in {*tree.groups, "all"}}
    values: dict[str, Vars] = {}
    for name in names:
        merged: Vars = {}
        holders = tree.groups_of(name)
        layers: list[tuple[str, Vars]] = [
            *((group, tree.groups[group].vars) for group in holders if group in tree.groups),
            ("all", beside["all"]),
            *((group, beside[group]) for group in holders if group != "all"),
        ]
        for group, layer in layers:
            for key, value in layer.items():
                _check_key(key, value, strict=group in own, shared=group in ("all", GROUP))
                merged[key] = value
        for layer in (tree.hosts[name].vars, vars_beside(tree.file, "host_vars", name)):
            for key, value in layer.items():
                _check_key(key, value, strict=True, shared=False)
                merged[key] = value
        values[name] = merged
    return values


def _check_key(key: str, value: Value, *, strict: bool, shared: bool) -> None:
    reason = unknown_key(key, strict=strict)
    if reason is not None:
        raise invalid(value.where, f"unknown variable {key!r}", reason)
    if key in _SHARED_KEYS and not shared:
        raise invalid(value.where, f"{key} holds for the whole cluster", f"move it to `vars:` of {GROUP} or all")


def _read(key: str, value: Value, check: Callable[[Any], Any], node: str = "") -> Any:
    try:
        return check(resolve(value.load(), node))
    except BadValue as problem:
        raise invalid(value.where, f"{key} {problem}", problem.next_step) from None


def _entry(name: str, variables: Vars, where: str) -> _Entry:
    try:
        check_name(name, "node")
    except UsageError as error:
        raise invalid(where, f"{error.what} {error.came_back}", error.next_step) from None
    found: dict[str, Any] = {}
    for field, keys in _FIELDS.items():
        for key in reversed(keys):  # every one is checked, the first wins
            if key in variables:
                found[field] = _read(key, variables[key], HOST_KEYS[key], name)
    arguments: tuple[str, ...] = ()
    for key in _SSH_ARGUMENTS:
        if key in variables:
            arguments += _read(key, variables[key], HOST_KEYS[key], name)
    local = found.get("connection") == "local"
    if "address" not in found:
        # Ansible's own default: the host's name is its address.
        found["address"] = "127.0.0.1" if local else _address(name, where)
    if local and "python" not in found:
        found["python"] = resolve("{{ ansible_playbook_python }}", name)
    return _Entry(Node(name=name, ssh_args=arguments, **found), where, variables)


def _address(name: str, where: str) -> Any:
    try:
        return HOST_KEYS["ansible_host"](name)
    except BadValue as problem:
        raise invalid(where, f"the name {problem}", "set ansible_host") from None


def _cluster(entries: list[_Entry], where: str, source: Path) -> Cluster:
    _check_master(entries, where)
    _check_addresses(entries)
    shared = entries[0].vars  # only groups of all nodes may set these, so every node has the same
    settings: dict[str, Any] = {
        field: _read(key, shared[key], CLUSTER_KEYS[key])
        for field, key in {"name": "ugro_cluster_name", "master_port": "ugro_master_port"}.items()
        if key in shared
    }
    if TRAINING in shared:
        settings["training"] = _training(shared[TRAINING])
    settings["settings"] = settings_of(shared, _read)
    nodes = [entry.node for entry in entries]
    nodes.sort(key=lambda node: node.role != "master")  # stable: the rest keeps the order of the inventory
    return Cluster(**{"name": "ugro", **settings}, nodes=tuple(nodes), source=source)


def _training(value: Value) -> TrainingDefaults:
    found: dict[str, Any] = {}
    for key, part in value.parts().items():
        if key not in TRAINING_KEYS:
            raise invalid(part.where, f"{TRAINING} has the unknown key {key!r}", closest(key, list(TRAINING_KEYS)))
        found[key] = _read(f"{TRAINING}.{key}", part, TRAINING_KEYS[key])
    return TrainingDefaults(**found)


def _check_master(entries: list[_Entry], where: str) -> None:
    masters = [entry for entry in entries if entry.node.role == "master"]
    if not masters:
        raise invalid(where, "no node is the master", "give one node `ugro_role: master`")
    if len(masters) > 1:
        names = " and ".join(entry.node.name for entry in masters)
        raise invalid(masters[1].place("role"), f"more than one master: {names}", "make all but one of them workers")


def _check_addresses(entries: list[_Entry]) -> None:
    seen: dict[tuple[str, int], str] = {}
    for entry in entries:
        node = entry.node
        if node.connection == "ssh":
            first = seen.setdefault((node.address.lower(), node.port), node.name)
            if first != node.name:
                what = f"{node.name} has the address {node.address} port {node.port} of {first}"
                next_step = "each machine is one node, however many GPUs it has"
                raise invalid(entry.place("address"), what, next_step)
    loopback = [entry for entry in entries if _is_loopback(entry.node.address)]
    if loopback and len(loopback) < len(entries):
        entry = loopback[0]
        what = f"{entry.node.name} has the loopback address {entry.node.address}"
        raise invalid(entry.place("address"), what, "set ansible_host to an address that the other nodes reach")


def _is_loopback(address: str) -> bool:
    return address.startswith("127.") or address.lower() in ("localhost", "::1")
