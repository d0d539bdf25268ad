# Copyright (c) 2026 The UGRO developers
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""Documentation shared by the modules that read a node."""

from __future__ import annotations


class ModuleDocFragment:
    """Fragments: plain for every reading module, `NODE` for those that read more than GPUs."""

    DOCUMENTATION = r"""
options:
  train_python:
    description:
      - The Python interpreter on the node that has torch, for example V(~/.ugro/venv/bin/python).
      - Where it is not given, V(~/.ugro/venv/bin/python) is looked at if it is there.
      - Its C(nvidia-ml-py) is used when the Python that runs the module has none.
    type: path
  deadline:
    description:
      - Seconds after which a driver, file system or name server that does not answer is given up and reported.
    type: float
    default: 5.0
attributes:
  check_mode:
    description: Can run in C(check_mode) and return changed status prediction without modifying target.
    support: full
  diff_mode:
    description: Will return details on what has changed (or possibly needs changing in check mode), when in diff mode.
    support: none
notes:
  - Sizes are in GB of 2**30 bytes, so a 12 GB card reads as about 12.
  - Nothing on the node is changed.
"""

    NODE = r"""
options:
  name:
    description: The name of the node in messages; by default its host name.
    type: str
  address:
    description: The address by which the other nodes reach this one, to find the network interface that holds it.
    type: str
  paths:
    description: Folders whose file systems are looked at; of one that does not exist yet, its nearest parent's.
    type: list
    elements: str
    default: []
"""
