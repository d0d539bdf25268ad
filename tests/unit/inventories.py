"""Inventories for tests, and how they are refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from ugro_py.errors import InventoryError
from ugro_py.inventory import load_cluster

MASTER = "    gpu-master: {ugro_role: master, ansible_host: 10.0.0.1}\n"


def write(folder: Path, text: str) -> Path:
    """Write the inventory `text` in `folder`."""
    file = folder / "hosts.yml"
    file.write_text(text)
    return file


def nodes_with(folder: Path, *hosts: str, group_vars: str = "") -> Path:
    """An inventory with a master (line 3) and further hosts from line 4 on."""
    body = "ugro_nodes:\n  hosts:\n" + MASTER + "".join(f"    {host}\n" for host in hosts)
    return write(folder, body + (f"  vars:\n    {group_vars}\n" if group_vars else ""))


def refusal(path: Path) -> str:
    """Return what loading an inventory that is not valid says."""
    with pytest.raises(InventoryError) as caught:
        load_cluster(path)
    assert caught.value.exit_code == 3
    return str(caught.value)
