#!/usr/bin/python
# Copyright (c) 2026 The UGRO developers
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""Documentation of the action plugin of the same name, which runs on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
module: compare_nodes
short_description: Judge all nodes of a play together
version_added: 0.1.0
author: The UGRO developers (@ugro)
description:
  - Takes what M(ugro.cluster.gpu_health) registered on every host of the play, compares the versions of torch, CUDA and
    NCCL and the clocks across nodes, prints a line for each node and finding, and fails if one is bad enough.
  - A host that could not be reached is a finding. Let the reading task have C(ignore_unreachable) to get here.
  - Runs on the controller, needs the Python package C(ugro) there, and is to be run once.
extends_documentation_fragment:
  - ugro.cluster.on_controller
options:
  register:
    description: Name of the variable in which each host registered its result of M(ugro.cluster.gpu_health).
    type: str
    required: true
  fail_on:
    description: From which severity on the task fails.
    type: str
    choices: [critical, warning, never]
    default: critical
  json_path:
    description: A file on the controller to which the verdict is written as JSON.
    type: path
  record:
    description:
      - Write the state of each node into UGRO's state database, if there is one, and drain nodes whose GPUs are lost.
      - Nodes that the agent has checked in the last minutes are left to it.
    type: bool
    default: false
seealso:
  - module: ugro.cluster.gpu_health
"""

EXAMPLES = r"""
- name: Read every node
  ugro.cluster.gpu_health:
    name: "{{ inventory_hostname }}"
    fail_on: never
  register: reading
  ignore_unreachable: true

- name: Judge them together
  ugro.cluster.compare_nodes:
    register: reading
  run_once: true
"""

RETURN = r"""
severity:
  description: The highest severity found, V(ok), V(warning) or V(critical).
  returned: always
  type: str
  sample: ok
nodes:
  description: For each node its C(severity), C(summary) and C(findings).
  returned: unless the task fails
  type: dict
  sample: {gpu1: {severity: ok, summary: RTX 4070 (8GB), findings: []}}
"""
