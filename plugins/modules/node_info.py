#!/usr/bin/python
# Copyright (c) 2026 The UGRO developers
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)

from __future__ import annotations

DOCUMENTATION = r"""
module: node_info
short_description: Read what a node has for training
version_added: 0.1.0
author: The UGRO developers (@ugro)
description:
  - Reads Python and the versions of torch, CUDA and NCCL (by package metadata, torch is not imported), free disk space,
    memory, load, clock, network interfaces, name resolution and the systemd manager that can hold a job.
  - It takes some milliseconds, where gathering facts takes seconds.
extends_documentation_fragment:
  - ugro.cluster.readings
  - ugro.cluster.readings.node
seealso:
  - module: ugro.cluster.gpu_health
"""

EXAMPLES = r"""
- name: Read the node
  ugro.cluster.node_info:
    address: 192.168.1.101
    train_python: ~/.ugro/venv/bin/python
    paths:
      - ~/.ugro
  register: node
"""

RETURN = r"""
node:
  description: The readings.
  returned: always
  type: dict
  contains:
    hostname:
      description: The node's own name.
      returned: always
      type: str
      sample: gpu1
    python:
      description: Version of the Python that ran the module.
      returned: always
      type: str
      sample: 3.11.2
    train_python:
      description:
        - What the training interpreter has (C(path), C(python), C(torch), C(cuda), C(nccl), C(packages), C(error));
          null when none is named and there is none at the usual place.
      returned: always
      type: dict
      sample:
        path: /root/.ugro/venv/bin/python
        python: 3.11.2
        torch: 2.6.0
        cuda: "12.4"
        nccl: 2.21.5
        packages: {torch: 2.6.0, nvidia-nccl-cu12: 2.21.5}
        error: null
    disks:
      description: Free and total space (C(free_gb), C(total_gb)) of each of O(paths).
      returned: always
      type: list
      elements: dict
      sample: [{path: ~/.ugro, free_gb: 78.2, total_gb: 251.9, error: null}]
    memory:
      description: Memory in GB.
      returned: always
      type: dict
      sample: {total_gb: 31.2, available_gb: 28.4}
    load:
      description: Load averages over 1, 5 and 15 minutes.
      returned: always
      type: list
      elements: float
      sample: [0.2, 0.1, 0.0]
    cpu_count:
      description: How many CPUs the module may use.
      returned: always
      type: int
      sample: 16
    clock:
      description: Unix time at the end of the reading.
      returned: always
      type: float
      sample: 1768910400.25
    boot_id:
      description: Identifies this boot of the kernel.
      returned: always
      type: str
      sample: 2785bd28-32a3-47dc-b88b-6028b9f009d9
    interfaces:
      description: The network interfaces, each with C(name), C(addresses) and C(up).
      returned: always
      type: list
      elements: dict
      sample: [{name: eth0, addresses: [192.168.1.101], up: true}]
    interface:
      description: The name of the interface that holds O(address), or null.
      returned: always
      type: str
      sample: eth0
    resolver:
      description: What the node's own name resolves to (C(hostname), C(fqdn), C(addresses), C(error)).
      returned: always
      type: dict
      sample: {hostname: gpu1, fqdn: gpu1, addresses: [192.168.1.101], error: null}
    unit_manager:
      description: The systemd manager that can run a job for this user, V(system), V(user) or V(none).
      returned: always
      type: str
      sample: user
    rsync:
      description: Path of C(rsync), or null.
      returned: always
      type: str
      sample: /usr/bin/rsync
    name:
      description: As given by O(name).
      returned: always
      type: str
      sample: gpu1
    address:
      description: As given by O(address).
      returned: always
      type: str
      sample: 192.168.1.101
    kernel:
      description: Release of the kernel.
      returned: always
      type: str
      sample: 6.1.0-18-amd64
    user:
      description: The user the module ran as.
      returned: always
      type: str
      sample: ob
    is_root:
      description: Whether that is root.
      returned: always
      type: bool
      sample: false
    home:
      description: The user's home folder.
      returned: always
      type: str
      sample: /home/ob
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.ugro.cluster.plugins.module_utils import pythons
from ansible_collections.ugro.cluster.plugins.module_utils.node import read_node


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str"},
            "address": {"type": "str"},
            "paths": {"type": "list", "elements": "str", "default": []},
            "train_python": {"type": "path"},
            "deadline": {"type": "float", "default": 5.0},
        },
        supports_check_mode=True,
    )
    params = module.params
    node = read_node(
        address=params["address"],
        paths=params["paths"],
        train_python=pythons.named_or_default(params["train_python"]),
        name=params["name"],
        deadline_s=params["deadline"],
    )
    module.exit_json(changed=False, node=node)


if __name__ == "__main__":
    main()
