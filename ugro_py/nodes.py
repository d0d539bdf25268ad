"""Adds machines to the cluster and removes them: `ugro nodes add` and `ugro nodes rm`."""

from __future__ import annotations

import socket
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ugro_py import paths
from ugro_py.cluster import Node
from ugro_py.errors import NodeError, UsageError
from ugro_py.hostkeys import HostKey, check_fingerprint, pin, read_host_key, temporary_trust
from ugro_py.inventory import inventory_file, parse_cluster
from ugro_py.inventory.edit import add_host, host_block, remove_host, write_inventory
from ugro_py.inventory.keys import HOST_KEYS, BadValue, resolve
from ugro_py.inventory.reader import read_bytes
from ugro_py.names import check_name
from ugro_py.readings import report_all

MASTER = "gpu-master"
"""The name this machine gets when the first node starts the user's inventory."""

# What the options of `ugro nodes add` become, in the order they are written.
_VARIABLES = {
    "role": "ugro_role",
    "address": "ansible_host",
    "user": "ansible_user",
    "port": "ansible_port",
    "key": "ansible_ssh_private_key_file",
    "ssh_args": "ansible_ssh_common_args",
    "python": "ansible_python_interpreter",
    "train_python": "ugro_python",
    "node_dir": "ugro_node_dir",
    "gpu": "ugro_gpu",
    "gpu_count": "ugro_gpu_count",
    "vram": "ugro_vram_gb",
    "slots": "ugro_slots",
}

_NEW_INVENTORY = """\
---
# Your cluster. `ugro nodes add` and `ugro nodes rm` edit this file and leave the rest of it alone; so may you.
# Every variable is described in docs/inventory.md.
ugro_nodes:
  vars:
    ugro_cluster_name: My cluster
  hosts:
"""
_THIS_MACHINE = "    # This machine; ansible_host is the address at which the other nodes reach it.\n"


@dataclass(frozen=True)
class Added:
    """What `add_node` did.

    `pinned_in` is the known_hosts file that holds the key now, None if it was trusted already; `notes` are lines
    for the user.
    """

    node: Node
    file: Path
    pinned_in: Path | None
    new_file: bool
    notes: tuple[str, ...]


def add_node(
    inventory: str | None,
    name: str,
    options: Mapping[str, Any],
    confirm: Callable[[Node, HostKey], None],
    fingerprint: str | None = None,
) -> Added:
    """Add a machine to the inventory: check its host key, log in, read its GPUs, pin the key, write the host.

    Nothing is changed unless all of it works.

    Args:
        inventory: the inventory's path as the user gave it; None is the user's own, which is made if need be.
        name: the new node's name.
        options: `address` and what else of role, user, port, key, ssh_args, python, train_python, node_dir,
            gpu, gpu_count, vram (GB per GPU) and slots the user gave; None is not given.
        confirm: called with the key of a host that is not trusted yet; returns if the user trusts it, else raises.
        fingerprint: the fingerprint the host's key must have; then `confirm` is not called.

    Raises:
        UsageError: a name or option is wrong, or the node exists.
        InventoryError: the inventory is not valid, now or with the node, or cannot be written.
        NodeError: the host cannot be reached, shows another key than the pinned one, or cannot run UGRO's code.
    """
    check_name(name, "node")
    if fingerprint is not None:
        check_fingerprint(fingerprint)
    given = _checked(name, options)
    file, old = _editable(inventory)
    own = None if old is not None or given["ugro_role"] == "master" else _this_machine(name, given["ansible_host"])

    cluster = parse_cluster(file, _content(file, old, name, given, own))
    node = cluster.node(name)
    key = read_host_key(node, fingerprint)
    if not key.trusted and fingerprint is None:
        confirm(node, key)
    with tempfile.TemporaryDirectory(prefix="ugro-hostkey-") as folder:
        asked = [temporary_trust(node, key, Path(folder) / "known_hosts")]
        if own is not None:
            asked.append(cluster.master)
        reports = report_all(asked)
    found, notes = _gpus(name, reports[name])
    if own is not None:
        mine, more = _gpus(MASTER, reports[MASTER])
        notes += more
        if found and not mine:
            mine = {"ugro_slots": 0}
            notes.append(f"{MASTER} (this machine) has no GPU and takes no part in training: ugro_slots is 0")
        own = {**own, **mine}
    new = _content(file, old, name, _ordered({**found, **given}), own)
    added = parse_cluster(file, new).node(name)
    pinned_in = None if key.trusted else pin(node, key)
    write_inventory(file, old, new)
    return Added(added, file, pinned_in, old is None, tuple(notes))


def remove_node(inventory: str | None, name: str, confirm: Callable[[Node, Path], None]) -> Path:
    """Remove a node from the inventory and return the file.

    Args:
        inventory: the inventory's path as the user gave it; None is the user's own.
        name: the node.
        confirm: called before anything is changed; returns if the user agrees, else raises.

    Raises:
        UsageError: a job runs on the node, it is the master, or the inventory is the embedded one.
        NotFoundError: there is no such node.
        InventoryError: the inventory is not valid, now or without the node, or cannot be written.
    """
    file, old = _editable(inventory)
    if old is None:
        raise UsageError(f"remove {name}", "you have no inventory of your own", "`ugro nodes add` starts one")
    node = parse_cluster(file, old).node(name)
    new = remove_host(file, old, name)
    _refuse_busy(name)
    confirm(node, file)
    write_inventory(file, old, new)
    return file


def _refuse_busy(name: str) -> None:
    from ugro_py.state import Store

    with Store.open() as store:
        ranks = store.ranks_of([job.name for job in store.jobs(active=True)])
    jobs = sorted(job for job, of_job in ranks.items() if any(rank.node == name for rank in of_job))
    if jobs:
        raise UsageError(f"remove {name}", f"job {jobs[0]} runs on it", f"wait for it, or `ugro stop {jobs[0]}`")


def _editable(inventory: str | None) -> tuple[Path, bytes | None]:
    """Return the inventory file to edit and its content, None if it is still to be made."""
    file = inventory_file(inventory)
    if not file.samefile(paths.embedded_inventory()):
        return file, read_bytes(file)
    if inventory is not None:
        step = f"leave out -i: your own is {paths.user_inventory()}"
        raise UsageError(f"edit {file}", "it is the inventory that UGRO ships", step)
    return paths.user_inventory(), None


def _checked(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that were given as variables, each checked as the inventory would check it."""
    given: dict[str, Any] = {}
    for option, key in _VARIABLES.items():
        value = options.get(option)
        if value is None:
            continue
        try:
            HOST_KEYS[key](resolve(value, name))
        except BadValue as problem:
            raise UsageError(f"--{option.replace('_', '-')}", str(problem), problem.next_step) from None
        given[key] = value
    return {"ugro_role": "worker", **given}


def _ordered(variables: Mapping[str, Any]) -> dict[str, Any]:
    return {key: variables[key] for key in _VARIABLES.values() if key in variables}


def _content(
    file: Path, old: bytes | None, name: str, values: Mapping[str, Any], own: Mapping[str, Any] | None
) -> bytes:
    """Return the inventory with the new node; where there is none yet, one with this machine (`own`) as master."""
    if old is not None:
        return add_host(file, old, name, values)
    if own is None:
        return (_NEW_INVENTORY + host_block(name, values, 4)).encode()
    start = _NEW_INVENTORY + _THIS_MACHINE + host_block(MASTER, own, 4)
    return add_host(file, start.encode(), name, values)


def _this_machine(name: str, address: str) -> dict[str, Any]:
    """Return the variables of this machine as the master of a cluster that begins with a node at `address`."""
    if name == MASTER:
        step = "choose another name, or --role master if this machine is to be no part of the cluster"
        raise UsageError(f"node name {name!r}", "is the name this machine gets as the master", step)
    try:
        family, kind, _, _, target = socket.getaddrinfo(address, 9, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, kind) as probe:
            probe.connect(target)  # sends nothing; the kernel picks the address from which it would
            mine = probe.getsockname()[0]
    except OSError as error:
        raise NodeError(f"{name}: find a way to {address}", error.strerror or str(error), "correct it") from error
    python = "{{ ansible_playbook_python }}"
    return {
        "ugro_role": "master",
        "ansible_connection": "local",
        "ansible_host": mine,
        "ansible_python_interpreter": python,
        "ugro_python": python,
    }


def _gpus(name: str, report: Mapping[str, Any] | NodeError) -> tuple[dict[str, Any], list[str]]:
    """Return the variables that describe the GPUs of a report, and what the user should know about them."""
    if isinstance(report, NodeError):
        raise report
    reading = report["gpu"]
    if reading["error"]:
        return {}, [f"{name}: its GPUs cannot be read: {reading['error']['text']}"]
    gpus = reading["gpus"]
    if not gpus:
        return {}, []
    names = dict.fromkeys(_short(gpu["name"]) for gpu in gpus if gpu["name"])
    sizes = [gpu["vram_total_gb"] for gpu in gpus if gpu["vram_total_gb"]]
    found: dict[str, Any] = {"ugro_gpu_count": len(gpus)}
    if names:
        found["ugro_gpu"] = ", ".join(names)
    if sizes:
        # The driver keeps a little for itself: a card sold with 8 GB reports 7.996.
        found["ugro_vram_gb"] = round(min(sizes)) or round(min(sizes), 2)
    lost = [f"{name}: GPU {gpu['index']} does not answer: {gpu['error']}" for gpu in gpus if gpu["lost"]]
    return found, lost


def _short(name: str) -> str:
    return name.removeprefix("NVIDIA ").removeprefix("GeForce ")
