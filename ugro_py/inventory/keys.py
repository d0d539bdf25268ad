"""The variables of an inventory that UGRO knows, and what each may hold."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ugro_py.inventory.reader import closest

# Roles of the collection; variables that start with one of these words belong to the role.
ROLE_PREFIXES = ("bootstrap_", "verify_", "launch_", "collect_", "stop_", "health_", "repair_", "agent_", "monitoring_")
# `ugro_` variables that playbooks take with -e; they say nothing of the cluster.
PLAYBOOK_KEYS = ("ugro_wait",)


class BadValue(ValueError):
    """A value does not fit its key: what it must be, and what to do where that is not obvious."""

    def __init__(self, message: str, next_step: str = "") -> None:
        super().__init__(message)
        self.next_step = next_step


_TEMPLATE = re.compile(r"\{\{|\{%|\{#")
_KNOWN_TEMPLATE = re.compile(r"\{\{\s*(ansible_playbook_python|inventory_hostname)\s*\}\}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_HOST_NAME = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(\.(?!-)[A-Za-z0-9_-]{1,63})*\.?")
_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@\\+-]{0,62}\$?")
# No spaces and nothing a shell would read: `~` must keep its meaning on the node.
_PATH = re.compile(r"(/|~/|~[a-z_][a-z0-9_-]*/)[A-Za-z0-9_./+@:,=-]*")


def resolve(data: Any, node: str) -> Any:
    """Return `data` with the two templates UGRO knows filled in.

    `{{ ansible_playbook_python }}` is the Python that runs UGRO, `{{ inventory_hostname }}` the node's name.
    Values are for Ansible to template, not for UGRO: any other template would mean one thing to a
    playbook and another to `ugro`.

    Raises:
        BadValue: the text holds another template.
    """
    if not isinstance(data, str):
        return data
    known = {"ansible_playbook_python": sys.executable, "inventory_hostname": node}
    text = _KNOWN_TEMPLATE.sub(lambda match: known[match[1]], data)
    if _TEMPLATE.search(text):
        raise BadValue(f"{text[:60]!r} is a template", "write the value itself: `ugro` does not run templates")
    return text


def _shown(data: Any) -> str:
    if isinstance(data, list | tuple | set | dict):
        return "a mapping" if isinstance(data, dict) else "a list"  # its text could be of any length
    return f"{data!r:.60}"


def text(data: Any) -> str:
    """A text without control characters, not empty."""
    if isinstance(data, bool) or not isinstance(data, str | int | float):
        raise BadValue(f"must be text, not {_shown(data)}")
    value = str(data).strip()
    if not value or _CONTROL.search(value):
        raise BadValue(f"must be text on one line, not {_shown(data)}")
    return value


def _quoted_text(data: Any) -> str:
    if not isinstance(data, str):
        raise BadValue(f"must be text, not {_shown(data)}", "put it in quotes")
    return text(data)


def integer(low: int, high: int) -> Callable[[Any], int]:
    """A whole number from `low` to `high`."""

    def check(data: Any) -> int:
        if isinstance(data, bool) or not isinstance(data, int):
            raise BadValue(f"must be a whole number, not {_shown(data)}")
        if not low <= data <= high:
            raise BadValue(f"must be from {low} to {high}, not {data}")
        return int(data)

    return check


def port(data: Any) -> int:
    """A TCP port. Ansible takes a quoted number here, so UGRO does too."""
    if isinstance(data, str) and data.isascii() and data.isdigit():
        data = int(data)
    return integer(1, 65535)(data)


def gigabytes(data: Any) -> float:
    """GB per GPU, more than 0."""
    if isinstance(data, bool) or not isinstance(data, int | float):
        raise BadValue(f"must be a number of GB, not {_shown(data)}")
    if not 0 < data <= 10_000:
        raise BadValue(f"must be more than 0 and at most 10000 GB, not {data}")
    return float(data)


def choice(*words: str) -> Callable[[Any], str]:
    """One of `words`."""

    def check(data: Any) -> str:
        if not isinstance(data, str) or data not in words:
            raise BadValue(f"must be {' or '.join(words)}, not {_shown(data)}")
        return str(data)

    return check


def address(data: Any) -> str:
    """A host name, an IPv4 or an IPv6 address (without brackets)."""
    value = _quoted_text(data)
    if ":" in value:
        import ipaddress

        try:
            ipaddress.IPv6Address(value)
        except ValueError:
            next_step = "ansible_port holds the port" if value.count(":") == 1 else ""
            raise BadValue(f"{_shown(value)} is not an address", next_step) from None
        return value
    digits = re.fullmatch(r"[0-9.]+", value)
    if digits:
        parts = value.split(".")
        if len(parts) != 4 or any(not part or len(part) > 3 or int(part) > 255 for part in parts):
            raise BadValue(f"{_shown(value)} is not an IPv4 address")
    elif len(value) > 253 or not _HOST_NAME.fullmatch(value):
        raise BadValue(f"{_shown(value)} is not a host name or an address")
    return value


def user(data: Any) -> str:
    """A user name, safe on a command line."""
    value = _quoted_text(data)
    if not _USER.fullmatch(value):
        raise BadValue(f"{_shown(value)} is not a user name")
    return value


def connection(data: Any) -> str:
    """`ssh` or `local`; the names that Ansible also knows for these are accepted."""
    known = {
        "ssh": "ssh",
        "smart": "ssh",
        "ansible.builtin.ssh": "ssh",
        "local": "local",
        "ansible.builtin.local": "local",
    }
    if not isinstance(data, str) or data not in known:
        raise BadValue(f"must be ssh or local, not {_shown(data)}")
    return known[data]


def node_path(data: Any) -> str:
    """An absolute path on a node, or one in a home folder (`~/…`)."""
    value = _quoted_text(data)
    if value == sys.executable:  # what `{{ ansible_playbook_python }}` becomes; only this machine uses it
        return value
    if not _PATH.fullmatch(value) or ".." in value.split("/"):
        raise BadValue(f"{_shown(value)} is not an absolute path or one below ~/", "use letters, digits and ._+-@")
    return value


def interpreter(data: Any) -> str:
    """The Python of modules; Ansible's words for "look for one" mean /usr/bin/python3 here."""
    if isinstance(data, str) and data in ("auto", "auto_silent", "auto_legacy", "auto_legacy_silent"):
        return "/usr/bin/python3"
    return node_path(data)


def local_path(data: Any) -> str:
    """A path on this machine, with `~` resolved."""
    value = _quoted_text(data)
    if value.startswith("-"):
        raise BadValue(f"{_shown(value)} is not a path")
    return str(Path(value).expanduser())


def ssh_arguments(data: Any) -> tuple[str, ...]:
    """Options for ssh, split as a shell would split them."""
    import shlex

    if not isinstance(data, str):
        raise BadValue(f"must be text, not {_shown(data)}")
    try:
        return tuple(shlex.split(data))
    except ValueError as error:
        raise BadValue(f"cannot be split into options ({error})") from None


_count = integer(1, 1_000_000)

# key in the inventory -> check
HOST_KEYS: dict[str, Callable[[Any], Any]] = {
    "ansible_host": address,
    "ansible_ssh_host": address,
    "ansible_user": user,
    "ansible_ssh_user": user,
    "ansible_port": port,
    "ansible_ssh_port": port,
    "ansible_connection": connection,
    "ansible_python_interpreter": interpreter,
    "ansible_ssh_private_key_file": local_path,
    "ansible_private_key_file": local_path,
    "ansible_ssh_args": ssh_arguments,
    "ansible_ssh_common_args": ssh_arguments,
    "ansible_ssh_extra_args": ssh_arguments,
    "ugro_role": choice("master", "worker"),
    "ugro_gpu": text,
    "ugro_gpu_count": integer(0, 64),
    "ugro_vram_gb": gigabytes,
    "ugro_slots": integer(0, 256),
    "ugro_python": node_path,
    "ugro_node_dir": node_path,
}
CLUSTER_KEYS: dict[str, Callable[[Any], Any]] = {
    "ugro_cluster_name": text,
    "ugro_master_port": port,
}
TRAINING = "ugro_training"
TRAINING_KEYS: dict[str, Callable[[Any], Any]] = {
    "model": text,
    "dataset": text,
    "epochs": _count,
    "batch_size_per_gpu": _count,
    "gradient_accumulation": _count,
}
# Mappings that say how the cluster is run; `ugro_py.inventory.settings` knows their keys.
SETTINGS_NAMES = (
    "ugro_recovery",
    "ugro_health",
    "ugro_queue",
    "ugro_alerts",
    "ugro_users",
    "ugro_logs",
    "ugro_loki",
    "ugro_energy",
    "ugro_accounts",
)


def unknown_key(key: str, *, strict: bool = True) -> str | None:
    """Return why `key` may not stand in an inventory (with the closest known key), or None if it may.

    Args:
        key: the name of a variable.
        strict: refuse every name that UGRO, its roles and Ansible do not know, not only unknown `ugro_` ones.
    """
    known = (*HOST_KEYS, *CLUSTER_KEYS, TRAINING, *SETTINGS_NAMES, *PLAYBOOK_KEYS)
    if key in known:
        return None
    if not key.startswith("ugro_") and (not strict or key.startswith(("ansible_", *ROLE_PREFIXES))):
        return None
    ours = [name for name in known if name.startswith("ugro_")]
    candidates = ours if key.startswith("ugro_") else list(known)
    return closest(key, candidates)
