# Copyright (c) 2026 The UGRO developers
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""Readings of this node that matter to training: Python, torch, disk, memory, clock, network, unit manager.

No program is started (unless the training interpreter is no environment of its own) and nothing is waited for
longer than a deadline; a usual reading takes a few milliseconds.
"""

from __future__ import annotations

import os
import pwd
import socket
import sys
import time

from . import deadline, interfaces, processes, programs, pythons, units

TYPE_CHECKING = False  # importing typing costs a node 3 ms
if TYPE_CHECKING:
    from typing import Any, Callable, Dict, List, Optional, Sequence

_GIB = float(2**30)


def read_node(
    address: Optional[str] = None,
    paths: Sequence[str] = (),
    train_python: Optional[str] = None,
    name: Optional[str] = None,
    deadline_s: float = 3.0,
) -> Dict[str, Any]:
    """Return what this node is and has; JSON-able. GB are 2**30 bytes.

    Args:
        address: the node's cluster address (an IP or a name), to find the interface that holds it.
        paths: folders whose file systems are looked at; of one that is not there yet, its nearest parent's.
        train_python: the interpreter that has torch.
        name: the node's name in the inventory, handed through.
        deadline_s: when to give up on a file system or resolver that does not answer.

    Returns:
        A dictionary with

        - ``name``, ``address``: as given;
        - ``hostname``, ``kernel``, ``python`` (version of this interpreter), ``user``, ``is_root``, ``home``;
        - ``train_python``: see `pythons.read_python`, or None if not asked for;
        - ``disks``: ``[{path, free_gb, total_gb, error}]``, free for this user;
        - ``memory``: ``{total_gb, available_gb}``; ``load``: the three averages; ``cpu_count``: usable CPUs;
        - ``clock``: Unix time at the end of the reading; ``boot_id``;
        - ``interfaces``: ``[{name, addresses, up}]``; ``interface``: the one that holds `address`, or None;
        - ``resolver``: ``{hostname, fqdn, addresses, error}``: what the node's own name resolves to;
        - ``unit_manager``: ``system``, ``user`` or ``none``, see `units.manager`;
        - ``rsync``: path of the program, or None.
    """
    slow = {
        "resolver": deadline.Call(_resolver),
        **{"disk:%d" % number: deadline.Call(_disk_call(path)) for number, path in enumerate(paths)},
    }
    own = _literal(address)
    if own is None:
        slow["addresses"] = deadline.Call(lambda: _addresses(address))
    found = interfaces.read_interfaces()
    reading: Dict[str, Any] = {
        "name": name,
        "address": address,
        "hostname": socket.gethostname(),
        "kernel": os.uname().release,
        "python": "%d.%d.%d" % sys.version_info[:3],
        "user": _user(),
        "is_root": os.geteuid() == 0,
        "home": os.path.expanduser("~"),
        "train_python": pythons.read_python(train_python, deadline_s) if train_python else None,
        "memory": _memory(),
        "load": [round(value, 2) for value in os.getloadavg()],
        "cpu_count": len(os.sched_getaffinity(0)),
        "boot_id": processes.boot_id(),
        "interfaces": found,
        "unit_manager": units.manager(),
        "rsync": programs.which("rsync"),
    }
    late = "no answer within %g s" % deadline_s
    answers = {key: _answer(call, deadline_s, late) for key, call in slow.items()}
    resolver = answers["resolver"]
    if isinstance(resolver, str):
        resolver = {"hostname": reading["hostname"], "fqdn": None, "addresses": [], "error": resolver}
    reading["resolver"] = resolver
    if own is None:
        own = answers["addresses"] if isinstance(answers["addresses"], list) else []
    reading["interface"] = interfaces.holding(found, own)
    reading["disks"] = [
        disk if isinstance(disk, dict) else {"path": path, "free_gb": None, "total_gb": None, "error": disk}
        for number, path in enumerate(paths)
        for disk in [answers["disk:%d" % number]]
    ]
    reading["clock"] = time.time()
    return reading


def _answer(call: deadline.Call, deadline_s: float, late: str) -> Any:
    """Return the value of a call, or as text why there is none."""
    try:
        return call.result(deadline_s)
    except deadline.DeadlineError:
        return late
    except deadline.CallError as error:
        return str(error)


def _resolver() -> Dict[str, Any]:
    """Say what this host's own name resolves to; torchrun asks the same and dies when there is no answer."""
    hostname = socket.gethostname()
    fqdn = socket.getfqdn()
    try:
        # As bytes: for text Python first imports its IDNA codec, which takes longer than all the rest here.
        name = fqdn.encode() if fqdn.isascii() else fqdn
        found = socket.getaddrinfo(name, None, proto=socket.IPPROTO_TCP)
    except OSError as error:
        return {"hostname": hostname, "fqdn": fqdn, "addresses": [], "error": str(error)}
    addresses = sorted({str(entry[4][0]) for entry in found})
    return {"hostname": hostname, "fqdn": fqdn, "addresses": addresses, "error": None}


def _literal(address: Optional[str]) -> Optional[List[str]]:
    """Return what `address` is when no resolver has to be asked for it: nothing, or an IP address; else None."""
    if not address:
        return []
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            return [socket.inet_ntop(family, socket.inet_pton(family, address))]
        except OSError:
            continue  # of the other family, or a name
    return None


def _addresses(address: str) -> List[str]:
    """Return the IP addresses of the name `address`."""
    return sorted({str(entry[4][0]) for entry in socket.getaddrinfo(address, None, proto=socket.IPPROTO_TCP)})


def _disk_call(path: str) -> Callable[[], Dict[str, Any]]:
    return lambda: _disk(path)


def _disk(path: str) -> Dict[str, Any]:
    """Return the free space at `path`, or at its nearest parent that exists."""
    place = os.path.abspath(os.path.expanduser(path))
    while not os.path.exists(place) and place != os.path.dirname(place):
        place = os.path.dirname(place)
    usage = os.statvfs(place)
    return {
        "path": path,
        "free_gb": round(usage.f_bavail * usage.f_frsize / _GIB, 3),
        "total_gb": round(usage.f_blocks * usage.f_frsize / _GIB, 3),
        "error": None,
    }


def _memory() -> Dict[str, Optional[float]]:
    sizes = {}
    with open("/proc/meminfo", encoding="ascii", errors="replace") as file:
        for line in file:
            key, dummy, rest = line.partition(":")
            if key in ("MemTotal", "MemAvailable"):
                sizes[key] = round(int(rest.split()[0]) * 1024 / _GIB, 3)
    return {"total_gb": sizes.get("MemTotal"), "available_gb": sizes.get("MemAvailable")}


def _user() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())  # an id without an account, as in some containers
